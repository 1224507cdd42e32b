//! Every key of both files: kind, unit, default, limits, meaning. This is the one place that says so: the loader reads by
//! it, and the reference in CONFIGURATION.md and the JSON Schemas are written from it.

mod host;
mod pipeline;

pub(super) use host::HOST;
pub(super) use pipeline::PIPELINE;

/// The keys of a kind of file, in the order in which they are told.
pub(super) type Catalogue = [Key];

/// A key.
#[derive(Debug)]
pub(super) struct Key {
    /// Its path, of bare names.
    pub(super) path: &'static str,
    /// What stands under it.
    pub(super) kind: Kind,
    /// What it is for, in Markdown.
    pub(super) meaning: &'static str,
    /// What its value must be beyond what its kind says, in Markdown; mostly nothing.
    pub(super) also: &'static str,
}

/// What stands under a key.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Kind {
    /// A table of known keys.
    Section,
    /// A table whose keys are the user's own.
    Free(Values),
    /// Nothing yet: refused, with what to do instead.
    Later(&'static str),
    /// A duration, in milliseconds.
    Duration(Amount),
    /// A size, in bytes.
    Size(Amount),
    /// A whole number.
    Whole {
        /// Where it is not written.
        default: u32,
        /// The least that is taken.
        least: u32,
        /// The most that is taken.
        most: u32,
    },
    /// A number.
    Number {
        /// Where it is not written.
        default: f64,
        /// The least that is taken.
        least: f64,
        /// The most that is taken.
        most: f64,
    },
    /// True or false.
    Switch {
        /// Where it is not written.
        default: bool,
    },
    /// One of a few words.
    Choice {
        /// Where it is not written.
        default: &'static str,
        /// All of them.
        words: &'static [&'static str],
    },
    /// `header:NAME`, or one of a few words.
    Origin {
        /// Where it is not written.
        default: Absent,
        /// The words.
        words: &'static [&'static str],
    },
    /// A string.
    Text {
        /// Where it is not written.
        default: Absent,
        /// What it must be.
        form: Form,
    },
    /// A list of whole numbers.
    Wholes {
        /// The least that is taken.
        least: u32,
        /// The most that is taken.
        most: u32,
    },
    /// A list of topics.
    Topics,
    /// A list of strings.
    List {
        /// Where it is not written.
        default: Absent,
        /// What each must be.
        form: Form,
    },
}

/// An amount's default and limits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Amount {
    /// Where it is not written; `None` where that means that the thing is off.
    pub(super) default: Option<u64>,
    /// The least that is taken.
    pub(super) least: u64,
    /// The most that is taken.
    pub(super) most: u64,
}

/// What holds where a key is not written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Absent {
    /// As if this were written.
    Is(&'static str),
    /// What words say, in Markdown.
    Told(&'static str),
    /// It must be written, if its section is.
    Required,
}

/// What a string must be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// A folder or file.
    Path,
    /// IP:PORT or localhost:PORT.
    Address,
    /// A SHA-256 digest.
    Digest,
    /// A key of minisign that verifies.
    PublicKey,
    /// A consumer group.
    Group,
    /// A topic.
    Topic,
    /// Where to send a POST to. It may be a secret.
    Url,
    /// HOST:PORT, or HOST alone.
    Server,
    /// HOST:PORT, or *.DOMAIN:PORT.
    Reached,
    /// Somebody's mail.
    Mailbox,
    /// What an alert is about.
    AlertKind,
    /// Anything, and never shown.
    Secret,
    /// Anything.
    Any,
}

/// What stands in a table of the user's own keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Values {
    /// Properties of librdkafka.
    Properties,
    /// Topics.
    Topics,
    /// Strings; numbers and booleans are taken as written.
    Strings,
}

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;
const SECOND: u64 = 1_000;
const MINUTE: u64 = 60 * SECOND;
const HOUR: u64 = 60 * MINUTE;
const DAY: u64 = 24 * HOUR;

/// The key of this path.
///
/// # Panics
/// If there is none. The loader reads every key on every load, so such a slip fails its first test.
#[allow(clippy::panic, reason = "no input brings it about, only code that was never run")]
pub(super) fn find(catalogue: &'static Catalogue, path: &str) -> &'static Key {
    match catalogue.iter().find(|key| key.path == path) {
        Some(key) => key,
        None => panic!("{path} is read, and not in the catalogue"),
    }
}

impl Key {
    const fn new(path: &'static str, kind: Kind, meaning: &'static str) -> Self {
        Self { path, kind, meaning, also: "" }
    }

    const fn also(mut self, also: &'static str) -> Self {
        self.also = also;
        self
    }

    /// The path's last name, and the section that it is in.
    pub(super) fn apart(&self) -> (&'static str, &'static str) {
        self.path.rsplit_once('.').unwrap_or(("", self.path))
    }

    /// Whether it is refused for now.
    pub(super) fn is_later(&self) -> bool {
        matches!(self.kind, Kind::Later(_))
    }

    /// Ends a load that reads the key as what it is not; see [`find`].
    #[allow(clippy::panic, reason = "no input brings it about, only code that was never run")]
    pub(super) fn misread(&self) -> ! {
        panic!("{} is read as something else than {:?}", self.path, self.kind)
    }
}

const fn section(path: &'static str, meaning: &'static str) -> Key {
    Key::new(path, Kind::Section, meaning)
}

const fn later(path: &'static str, cure: &'static str) -> Key {
    Key::new(path, Kind::Later(cure), "")
}

const fn duration(path: &'static str, default: u64, least: u64, most: u64, meaning: &'static str) -> Key {
    Key::new(path, Kind::Duration(Amount { default: Some(default), least, most }), meaning)
}

const fn size(path: &'static str, default: u64, least: u64, most: u64, meaning: &'static str) -> Key {
    Key::new(path, Kind::Size(Amount { default: Some(default), least, most }), meaning)
}

const fn whole(path: &'static str, default: u32, least: u32, most: u32, meaning: &'static str) -> Key {
    Key::new(path, Kind::Whole { default, least, most }, meaning)
}

const fn number(path: &'static str, default: f64, least: f64, most: f64, meaning: &'static str) -> Key {
    Key::new(path, Kind::Number { default, least, most }, meaning)
}

const fn switch(path: &'static str, default: bool, meaning: &'static str) -> Key {
    Key::new(path, Kind::Switch { default }, meaning)
}

const fn choice(
    path: &'static str,
    default: &'static str,
    words: &'static [&'static str],
    meaning: &'static str,
) -> Key {
    Key::new(path, Kind::Choice { default, words }, meaning)
}

const fn text(path: &'static str, default: Absent, form: Form, meaning: &'static str) -> Key {
    Key::new(path, Kind::Text { default, form }, meaning)
}

const fn list(path: &'static str, default: Absent, form: Form, meaning: &'static str) -> Key {
    Key::new(path, Kind::List { default, form }, meaning)
}
