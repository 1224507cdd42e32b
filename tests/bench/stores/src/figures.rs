//! What a process uses, as Linux tells it.

use std::error::Error;
use std::path::Path;
use std::time::Instant;

pub(crate) struct Figures {
    at: Instant,
    cpu_ms: u64,
    pub(crate) rss: u64,
}

impl Figures {
    pub(crate) fn now() -> Result<Self, Box<dyn Error>> {
        let stat = std::fs::read_to_string("/proc/self/stat")?;
        let fields = stat.rsplit(')').next().unwrap_or_default().split_whitespace().skip(11).take(2);
        let ticks: u64 = fields.map(str::parse::<u64>).sum::<Result<_, _>>()?;
        let status = std::fs::read_to_string("/proc/self/status")?;
        let rss = status.lines().find_map(|l| l.strip_prefix("VmRSS:")).ok_or("no VmRSS")?;
        let rss = rss.trim().trim_end_matches(" kB").parse::<u64>()? * 1024;
        Ok(Self { at: Instant::now(), cpu_ms: ticks * 10, rss })
    }

    pub(crate) fn until_now(&self, count: usize) -> Result<String, Box<dyn Error>> {
        let cpu = (Self::now()?.cpu_ms - self.cpu_ms) as f64 * 1e3 / count as f64;
        let wall = self.at.elapsed().as_micros() as f64 / count as f64;
        Ok(format!("CPU {cpu:.2} us each, wall {wall:.2} us"))
    }
}

/// Bytes of all files below a folder.
pub(crate) fn disk(folder: &Path) -> Result<u64, Box<dyn Error>> {
    let mut bytes = 0;
    for found in std::fs::read_dir(folder)? {
        let found = found?;
        bytes += if found.file_type()?.is_dir() { disk(&found.path())? } else { found.metadata()?.len() };
    }
    Ok(bytes)
}

pub(crate) fn mix(n: u64) -> u64 {
    let mut z = n.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}
