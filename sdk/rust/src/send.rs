//! What goes out.

use std::borrow::Cow;
use std::time::Duration;

use crate::error::Error;
use crate::host::{Active, Host, Output};
use crate::millis;

/// Kafka's null: as a value, a tombstone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Null;

/// What may stand as key, value or header value: text or bytes, owned or borrowed; [`Null`]; or an `Option` of these,
/// whose `None` is Kafka's null.
pub trait Payload<'a> {
    /// The bytes, or Kafka's null.
    fn into_payload(self) -> Option<Cow<'a, [u8]>>;
}

macro_rules! payload {
    ($($from:ty, $value:ident => $bytes:expr;)*) => {$(
        impl<'a> Payload<'a> for $from {
            fn into_payload(self) -> Option<Cow<'a, [u8]>> {
                let $value = self;
                $bytes
            }
        }
    )*};
}

payload! {
    &'a [u8], bytes => Some(Cow::Borrowed(bytes));
    &'a Vec<u8>, bytes => Some(Cow::Borrowed(bytes));
    Vec<u8>, bytes => Some(Cow::Owned(bytes));
    Cow<'a, [u8]>, bytes => Some(bytes);
    &'a str, text => Some(Cow::Borrowed(text.as_bytes()));
    &'a String, text => Some(Cow::Borrowed(text.as_bytes()));
    String, text => Some(Cow::Owned(text.into_bytes()));
    Null, _null => None;
}

impl<'a, const N: usize> Payload<'a> for &'a [u8; N] {
    fn into_payload(self) -> Option<Cow<'a, [u8]>> {
        Some(Cow::Borrowed(self))
    }
}

impl<'a, T: Payload<'a>> Payload<'a> for Option<T> {
    fn into_payload(self) -> Option<Cow<'a, [u8]>> {
        self.and_then(T::into_payload)
    }
}

/// A record on its way out: [`Context::send`](crate::Context::send) starts it, [`dispatch`](Outgoing::dispatch) stages
/// it.
///
/// Unless told otherwise it carries the message's own key and timestamp and no headers but `traceparent` and
/// `tracestate`, which always go along.
#[must_use = "nothing is sent before `.dispatch()?`"]
pub struct Outgoing<'a> {
    pub(crate) host: &'a Active,
    pub(crate) slot: u32,
    pub(crate) output: Output<'a>,
}

impl<'a> Outgoing<'a> {
    /// Another key than the message's; [`Null`] for none.
    pub fn key(mut self, key: impl Payload<'a>) -> Self {
        self.output.key = key.into_payload();
        self
    }

    /// Adds a header. Names may repeat.
    pub fn header(mut self, name: &'a str, value: impl Payload<'a>) -> Self {
        self.output.headers.push((name, value.into_payload()));
        self
    }

    /// Also copies the message's own headers.
    pub fn forward_headers(mut self) -> Self {
        self.output.forward_headers = true;
        self
    }

    /// Another timestamp than the message's, in milliseconds since the Unix epoch.
    pub fn timestamp_ms(mut self, timestamp_ms: i64) -> Self {
        self.output.timestamp_ms = Some(timestamp_ms);
        self
    }

    /// Delivers the record no earlier than this long after the message is settled, from a millisecond to 366 days; zero is
    /// at once. It goes out once, and waits for nothing else of its key. Until then it is kept as it is staged here, so all its
    /// parts together have at most 512 KiB.
    ///
    /// [`dispatch`](Outgoing::dispatch) gives [`Error::Other`] where the manifest allows no delay, or not so long a one: see
    /// `limits.delay`, which needs `guarantee = "exactly-once"` and `order.scope = "topic"`.
    pub fn delay(mut self, delay: Duration) -> Self {
        self.output.delay_ms = Some(millis(delay));
        self
    }

    /// Stages the record: it is sent when the message settles, and forgotten if the message fails.
    ///
    /// # Errors
    /// [`Error::UnknownOutput`], [`Error::TooLarge`] and [`Error::OverQuota`], by the manifest; [`Error::Other`] in the
    /// host's words.
    pub fn dispatch(self) -> Result<(), Error> {
        self.host.send(self.slot, &self.output)
    }
}
