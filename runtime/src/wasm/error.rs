//! Errors, each kind named by what went wrong with the file, the instance or the call.

use super::contract::{CONTRACT_PACKAGE, CONTRACT_VERSION, EXPORT};
use super::wasi;
use std::fmt;
use std::time::Duration;

/// Why a file is no handler that this host can run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoadError {
    /// The name given to [`super::Host::load`]; empty when the host itself could not start.
    pub handler: String,
    /// What is wrong.
    pub kind: LoadErrorKind,
}

/// What is wrong with a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LoadErrorKind {
    /// Not WebAssembly at all; says what it looks like.
    NotWasm {
        /// What the file looks like.
        found: String,
    },
    /// WebAssembly, but cut off or broken.
    Damaged {
        /// Where and how.
        detail: String,
    },
    /// Larger than the host accepts.
    TooLarge {
        /// What was counted: `bytes` or `functions`.
        what: &'static str,
        /// How many there are.
        has: u64,
        /// How many are accepted.
        limit: u64,
    },
    /// It does not implement the contract.
    WrongContract {
        /// What is missing or differs.
        missing: String,
        /// What it has instead.
        found: Vec<String>,
    },
    /// It implements another version of the contract.
    WrongVersion {
        /// The interface it was built against, with its version.
        has: String,
        /// The version that this host speaks.
        needs: &'static str,
    },
    /// It imports something that a handler may not have.
    ForbiddenImport {
        /// The import's name.
        name: String,
    },
    /// The compiler refuses it.
    Compile {
        /// The compiler's reason.
        detail: String,
    },
    /// It keeps the compiler busy for longer than is waited.
    TooSlow {
        /// How long that is.
        limit: Duration,
    },
    /// The host could not be set up; the file is not to blame.
    Host {
        /// What failed.
        detail: String,
    },
}

impl fmt::Display for LoadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.handler.is_empty() { write!(f, "{}", self.kind) } else { write!(f, "{}: {}", self.handler, self.kind) }
    }
}

impl fmt::Display for LoadErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotWasm { found } => write!(
                f,
                "this is no WebAssembly: {found}; needed is a component or a core module in the binary format"
            ),
            Self::Damaged { detail } => {
                write!(f, "the WebAssembly is damaged or cut off: {detail}; copy or build the file anew")
            }
            Self::TooLarge { what, has, limit } => write!(f, "it has {has} {what}, and at most {limit} are accepted"),
            Self::WrongContract { missing, found } => {
                write!(f, "it does not implement {CONTRACT_PACKAGE}@{CONTRACT_VERSION}: {missing}; it has ")?;
                if found.is_empty() {
                    f.write_str("none")?
                } else {
                    f.write_str(&found.join(", "))?
                }
                write!(f, "; build it against handler.wit, whose export is {EXPORT}")
            }
            Self::WrongVersion { has, needs } => write!(
                f,
                "it was built against {has}, and this host speaks {CONTRACT_PACKAGE}@{needs}; build it against that \
                 version, or use a host that speaks the other"
            ),
            Self::ForbiddenImport { name } if wasi::interface(name).is_some() => write!(
                f,
                "it imports {name} as a core module, which does not say with which types; make a component of it first \
                 (wasm-tools component new)"
            ),
            Self::ForbiddenImport { name } if is_wasi(name) => write!(
                f,
                "it imports {name}, and of WASI this host gives {} and the interfaces of 0.2; build it for one of these, \
                 or for a target without WASI, such as wasm32-unknown-unknown",
                wasi::preview1::MODULE
            ),
            Self::ForbiddenImport { name } => write!(
                f,
                "it imports {name}, which a handler may not: it may import {CONTRACT_PACKAGE} and WASI; remove the import"
            ),
            Self::Compile { detail } => write!(f, "it does not compile: {detail}"),
            Self::TooSlow { limit } => write!(
                f,
                "it takes more than {} s to compile, which is not waited for; build it smaller, or of smaller functions",
                limit.as_secs()
            ),
            Self::Host { detail } => write!(f, "the WebAssembly host could not start: {detail}"),
        }
    }
}

impl std::error::Error for LoadError {}

fn is_wasi(import: &str) -> bool {
    import.starts_with("wasi:") || import.starts_with("wasi_")
}

/// Why an instance did not open.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpenError {
    /// The pipeline's name.
    pub handler: String,
    /// What happened.
    pub kind: OpenErrorKind,
}

/// What happened when an instance was opened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OpenErrorKind {
    /// The handler's own `open` answered with an error: its words, cleaned and cut at 4 KiB.
    Refused(String),
    /// It trapped, ran too long, or passed a limit.
    Failed(CallFailure),
    /// The host has no room for another instance.
    NoRoom(String),
}

impl fmt::Display for OpenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.handler)?;
        match &self.kind {
            OpenErrorKind::Refused(words) => write!(f, "the handler refuses to open: {words}"),
            OpenErrorKind::Failed(failure) => write!(f, "the handler failed while opening: {failure}"),
            OpenErrorKind::NoRoom(detail) => {
                write!(f, "no room for another instance: {detail}; run fewer pipelines or shards in this process")
            }
        }
    }
}

impl std::error::Error for OpenError {}

/// Why a call of a handler failed. The instance is dead; no message of the batch is condemned by it yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CallFailure {
    /// The guest trapped, or handed over something that breaks the contract's binary form.
    Trap {
        /// The reason and the guest's innermost functions, cleaned and cut.
        detail: String,
    },
    /// It ran past its deadline.
    Timeout,
    /// It failed after it was refused memory.
    Memory {
        /// What was refused, then how the guest failed.
        detail: String,
    },
    /// It returned another number of outcomes than the batch has messages.
    WrongCount {
        /// Messages in the batch.
        expected: usize,
        /// Outcomes returned.
        got: usize,
    },
    /// It called the host too often, or handed it too much.
    HostCalls {
        /// Which bound was passed.
        detail: String,
    },
}

impl CallFailure {
    /// What happened, in one word.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Trap { .. } => "trap",
            Self::Timeout => "timeout",
            Self::Memory { .. } => "memory",
            Self::WrongCount { .. } => "wrong-count",
            Self::HostCalls { .. } => "host-calls",
        }
    }

    /// What happened, without the kind of it where that is told beside it.
    #[must_use]
    pub fn words(&self) -> String {
        match self {
            Self::Trap { detail } => detail.clone(),
            other => other.to_string(),
        }
    }
}

impl fmt::Display for CallFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Trap { detail } => write!(f, "trap: {detail}"),
            Self::Timeout => f.write_str("it ran past its time limit"),
            Self::Memory { detail } => write!(f, "out of memory: {detail}"),
            Self::WrongCount { expected, got } => write!(f, "{expected} messages, but {got} outcomes"),
            Self::HostCalls { detail } => write!(f, "too much asked of the host: {detail}"),
        }
    }
}

impl std::error::Error for CallFailure {}
