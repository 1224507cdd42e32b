//! Access rules.

use anyhow::{Context, Result, bail};
use rdkafka::bindings as c;
use rdkafka::client::{Client, DefaultClientContext};
use rdkafka::config::ClientConfig;
use rdkafka::types::RDKafkaType;
use std::ffi::{CStr, CString, c_char};

/// Makes one rule that allows, from any host.
pub(crate) fn allow(bootstrap: &str, user: &str, operation: &str, resource: &str, name: &str) -> Result<()> {
    use c::{rd_kafka_AclOperation_t as op, rd_kafka_ResourceType_t as kind};
    let operation = match operation {
        "All" => op::RD_KAFKA_ACL_OPERATION_ALL,
        "Read" => op::RD_KAFKA_ACL_OPERATION_READ,
        "Write" => op::RD_KAFKA_ACL_OPERATION_WRITE,
        "Create" => op::RD_KAFKA_ACL_OPERATION_CREATE,
        "Describe" => op::RD_KAFKA_ACL_OPERATION_DESCRIBE,
        "DescribeConfigs" => op::RD_KAFKA_ACL_OPERATION_DESCRIBE_CONFIGS,
        _ => bail!("no operation {operation:?} is known here"),
    };
    let (kind, name) = match resource {
        "topic" => (kind::RD_KAFKA_RESOURCE_TOPIC, name),
        "group" => (kind::RD_KAFKA_RESOURCE_GROUP, name),
        "transactional-id" => (kind::RD_KAFKA_RESOURCE_TRANSACTIONAL_ID, name),
        "transactional-ids" => (kind::RD_KAFKA_RESOURCE_TRANSACTIONAL_ID, name),
        "cluster" => (kind::RD_KAFKA_RESOURCE_BROKER, "kafka-cluster"),
        _ => bail!("no resource {resource:?} is known here"),
    };
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", bootstrap);
    let client =
        Client::new(&config, config.create_native_config()?, RDKafkaType::RD_KAFKA_PRODUCER, DefaultClientContext)?;
    let pattern = match resource {
        "transactional-ids" => c::rd_kafka_ResourcePatternType_t::RD_KAFKA_RESOURCE_PATTERN_PREFIXED,
        _ => c::rd_kafka_ResourcePatternType_t::RD_KAFKA_RESOURCE_PATTERN_LITERAL,
    };
    let (name, principal, host) = (CString::new(name)?, CString::new(format!("User:{user}"))?, c"*");
    let mut why = [0 as c_char; 256];
    // SAFETY: all pointers are live for their calls; each object is freed once, the queue before the client.
    unsafe {
        let rk = client.native_ptr();
        let binding = c::rd_kafka_AclBinding_new(
            kind,
            name.as_ptr(),
            pattern,
            principal.as_ptr(),
            host.as_ptr(),
            operation,
            c::rd_kafka_AclPermissionType_t::RD_KAFKA_ACL_PERMISSION_TYPE_ALLOW,
            why.as_mut_ptr(),
            why.len(),
        );
        if binding.is_null() {
            bail!("{}", CStr::from_ptr(why.as_ptr()).to_string_lossy());
        }
        let queue = c::rd_kafka_queue_new(rk);
        let mut bindings = [binding];
        c::rd_kafka_CreateAcls(rk, bindings.as_mut_ptr(), 1, std::ptr::null(), queue);
        let event = c::rd_kafka_queue_poll(queue, 20_000);
        let outcome = outcome(event);
        c::rd_kafka_event_destroy(event);
        c::rd_kafka_queue_destroy(queue);
        c::rd_kafka_AclBinding_destroy(binding);
        outcome.context("making an access rule")
    }
}

/// # Safety
/// `event` is null or a live answer to `CreateAcls`.
unsafe fn outcome(event: *mut c::rd_kafka_event_t) -> Result<()> {
    if event.is_null() {
        bail!("no answer within 20 s");
    }
    let mut count = 0;
    // SAFETY: the caller vouches for the event; all that is read lives as long as it.
    unsafe {
        if rdkafka::types::RDKafkaErrorCode::from(c::rd_kafka_event_error(event)) as i32 != 0 {
            bail!("{}", CStr::from_ptr(c::rd_kafka_event_error_string(event)).to_string_lossy());
        }
        let results = c::rd_kafka_CreateAcls_result_acls(c::rd_kafka_event_CreateAcls_result(event), &mut count);
        for i in 0..count {
            let error = c::rd_kafka_acl_result_error(*results.add(i));
            if !error.is_null() {
                bail!("{}", CStr::from_ptr(c::rd_kafka_error_string(error)).to_string_lossy());
            }
        }
    }
    Ok(())
}
