//! The socket in the folder, over which commands reach the process that holds it.
//!
//! A frame is two lengths, a head in JSON and a body of packed records ([`super::block`]); both lengths are bounded. The
//! client speaks first and says which protocol it knows; then it asks, and each question has one answer.

mod client;
mod frame;
mod message;
mod server;
mod transactions;

pub(super) use client::SocketClient;
pub(super) use server::Server;

use super::errors::operator;
use crate::broker::BrokerError;
use std::path::{Path, PathBuf};

/// The socket's name in the folder.
const SOCKET: &str = "keyrail.sock";
/// Where the socket is made; see [`server`]. Shorter than [`SOCKET`].
const NURSERY: &str = ".sock";
/// Raised when old clients and servers would misunderstand each other.
const PROTOCOL: u32 = 3;
/// What the address of a socket holds on Linux, its closing zero not counted; macOS and the BSDs take 4 less.
const LONGEST_PATH: usize = if cfg!(any(target_os = "linux", target_os = "android")) { 107 } else { 103 };

/// The socket's path, if the system can take it.
fn path_of(dir: &Path) -> Result<PathBuf, BrokerError> {
    let path = dir.join(SOCKET);
    let length = path.as_os_str().len();
    if length > LONGEST_PATH {
        return Err(operator(format!(
            "{}: the path of the socket in it has {length} bytes, and the system takes {LONGEST_PATH}: choose a shorter \
             [embedded] dir, or start nearer to it with a relative one",
            dir.display()
        )));
    }
    Ok(path)
}
