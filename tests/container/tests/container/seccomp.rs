//! The system calls that Docker, Podman and Kubernetes' `RuntimeDefault` let a container without capabilities make: the
//! list that comes with Buildah, put into the words of runc.

use serde_json::{Value, json};

const LIST: &str = "/usr/share/containers/seccomp.json";
/// This machine's architecture, as the list and as runc call it.
const HERE: (&str, &str) =
    if cfg!(target_arch = "aarch64") { ("arm64", "SCMP_ARCH_AARCH64") } else { ("amd64", "SCMP_ARCH_X86_64") };

pub(crate) fn profile() -> Value {
    let text = std::fs::read_to_string(LIST).unwrap_or_else(|e| panic!("{LIST}: {e}"));
    let list: Value = serde_json::from_str(&text).unwrap();
    let rules: Vec<_> = list["syscalls"].as_array().unwrap().iter().filter(|r| holds(r)).map(rule).collect();
    assert!(rules.len() > 5, "{LIST} has another form than expected");
    json!({
        "defaultAction": list["defaultAction"],
        "defaultErrnoRet": list["defaultErrnoRet"],
        "architectures": [HERE.1],
        "syscalls": rules,
    })
}

/// Whether a rule holds here, for a process that has no capability.
fn holds(rule: &Value) -> bool {
    let names = |at: &Value| -> Vec<String> {
        at.as_array().map_or(Vec::new(), |a| a.iter().filter_map(Value::as_str).map(str::to_owned).collect())
    };
    let (with, without) = (&rule["includes"], &rule["excludes"]);
    let architectures = names(&with["arches"]);
    names(&with["caps"]).is_empty()
        && (architectures.is_empty() || architectures.iter().any(|a| a == HERE.0))
        && !names(&without["arches"]).iter().any(|a| a == HERE.0)
}

fn rule(rule: &Value) -> Value {
    let mut out = json!({"names": rule["names"], "action": rule["action"]});
    for key in ["args", "errnoRet"] {
        if !rule[key].is_null() {
            out[key] = rule[key].clone();
        }
    }
    out
}
