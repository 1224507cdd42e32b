import java.time.Duration;
import java.util.Properties;
import org.apache.kafka.common.serialization.Serdes;
import org.apache.kafka.common.utils.Bytes;
import org.apache.kafka.streams.KafkaStreams;
import org.apache.kafka.streams.StreamsBuilder;
import org.apache.kafka.streams.StreamsConfig;
import org.apache.kafka.streams.errors.StreamsUncaughtExceptionHandler.StreamThreadExceptionResponse;
import org.apache.kafka.streams.kstream.Consumed;
import org.apache.kafka.streams.kstream.Grouped;
import org.apache.kafka.streams.kstream.Materialized;
import org.apache.kafka.streams.kstream.Produced;
import org.apache.kafka.streams.state.KeyValueStore;

/**
 * Counts the messages of each key with Kafka Streams, exactly once, and writes each count as 8 bytes, big-endian: what the
 * bench's part `state` compares Keyrail with. Runs until it is told to end (SIGTERM), and then ends with code 0.
 *
 * <p>Keys and values are not looked into. All is as Kafka Streams has it by default but for what is set here.
 */
public final class Count {
    private static final Duration CLOSE_LIMIT = Duration.ofSeconds(30);

    private Count() {}

    public static void main(String[] args) {
        if (args.length != 7) {
            System.err.println("Count BOOTSTRAP APPLICATION INPUT OUTPUT STATE-FOLDER THREADS CACHE-BYTES|default");
            System.exit(2);
        }
        Properties settings = new Properties();
        settings.put(StreamsConfig.BOOTSTRAP_SERVERS_CONFIG, args[0]);
        settings.put(StreamsConfig.APPLICATION_ID_CONFIG, args[1]);
        settings.put(StreamsConfig.STATE_DIR_CONFIG, args[4]);
        settings.put(StreamsConfig.NUM_STREAM_THREADS_CONFIG, args[5]);
        if (!args[6].equals("default")) {
            settings.put(StreamsConfig.STATESTORE_CACHE_MAX_BYTES_CONFIG, args[6]);
        }
        settings.put(StreamsConfig.PROCESSING_GUARANTEE_CONFIG, StreamsConfig.EXACTLY_ONCE_V2);
        settings.put(StreamsConfig.COMMIT_INTERVAL_MS_CONFIG, 100);
        // By default a member that ends stays in its group until its session is over, and whoever starts next waits 45 s.
        settings.put(StreamsConfig.consumerPrefix("internal.leave.group.on.close"), true);

        StreamsBuilder builder = new StreamsBuilder();
        builder.stream(args[2], Consumed.with(Serdes.ByteArray(), Serdes.ByteArray()))
                .groupByKey(Grouped.with(Serdes.ByteArray(), Serdes.ByteArray()))
                .count(Materialized.<byte[], Long, KeyValueStore<Bytes, byte[]>>as("counts")
                        .withKeySerde(Serdes.ByteArray())
                        .withValueSerde(Serdes.Long()))
                .toStream()
                .to(args[3], Produced.with(Serdes.ByteArray(), Serdes.Long()));

        KafkaStreams streams = new KafkaStreams(builder.build(), settings);
        streams.setUncaughtExceptionHandler(error -> {
            error.printStackTrace();
            Runtime.getRuntime().halt(1);
            return StreamThreadExceptionResponse.SHUTDOWN_CLIENT;
        });
        // A JVM that is told to end has the code 143, whatever became of its work.
        Runtime.getRuntime().addShutdownHook(new Thread(() -> {
            boolean closed = streams.close(CLOSE_LIMIT);
            Runtime.getRuntime().halt(closed ? 0 : 1);
        }));
        streams.start();
    }
}
