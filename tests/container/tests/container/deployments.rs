//! `compose.yaml` and `kubernetes.yaml`: valid by the schemas of those who read them, and true to the image.

use crate::image::{image, is_pinned};
use crate::sandbox::Sandbox;
use crate::stage::{Stage, USER, spec};
use crate::{given, repository};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

const FOLDER: &str = "examples/container";
/// An older one, and the newest that the package knows: each refuses what it does not know.
const KUBERNETES: [&str; 2] = ["1.34", "1.37"];
/// Prints a YAML file as JSON, read as Kubernetes reads it: YAML 1.1.
const TO_JSON: &str = "import json, sys, yaml; print(json.dumps(list(yaml.safe_load_all(open(sys.argv[1])))))";

/// Python with the packages that know the schemas.
fn python(schemas: &Path, arguments: &[&str], file: &Path) -> Output {
    Command::new("python3").args(arguments).arg(file).env("PYTHONPATH", schemas).output().unwrap()
}

fn documents(schemas: &Path, name: &str) -> Vec<Value> {
    let out = python(schemas, &["-c", TO_JSON], &repository(FOLDER).join(name));
    assert!(out.status.success(), "{out:?}");
    serde_json::from_slice(&out.stdout).unwrap()
}

/// The folder of the schemas and the only document of `compose.yaml`.
fn compose(test: &str) -> Option<(PathBuf, Value)> {
    let schemas = given(test, "KEYRAIL_SCHEMAS")?;
    let document = documents(&schemas, "compose.yaml").remove(0);
    Some((schemas, document))
}

fn of_kind(documents: &[Value], kind: &str) -> Value {
    documents.iter().find(|d| d["kind"] == kind).unwrap_or_else(|| panic!("no {kind}")).clone()
}

/// The check of the container's health in `compose.yaml`, the words that Compose would run.
pub(crate) fn health_check() -> Vec<String> {
    let text = std::fs::read_to_string(repository(FOLDER).join("compose.yaml")).unwrap();
    let line = text.lines().find_map(|l| l.trim().strip_prefix("- \"exec ")).unwrap();
    // What stands in YAML's double quotes is what JSON would have; Compose writes `$` twice.
    let script: String = serde_json::from_str(&format!("\"exec {line}")).unwrap();
    vec!["bash".to_owned(), "-c".to_owned(), script.replace("$$", "$")]
}

/// `35s` and `1m`, as in all three files.
fn seconds(text: &str) -> u64 {
    let (number, unit) = text.split_at(text.len() - 1);
    number.parse::<u64>().unwrap() * if unit == "m" { 60 } else { 1 }
}

/// `shutdown-grace` of a keyrail.toml.
fn grace_seconds(toml: &str) -> u64 {
    let line = toml.lines().find_map(|l| l.trim().strip_prefix("shutdown-grace = ")).unwrap();
    seconds(line.split('"').nth(1).unwrap())
}

#[test]
fn the_compose_file_fits_its_schema_and_a_misspelt_key_does_not() {
    let Some((schemas, _)) = compose("the_compose_file_fits_its_schema_and_a_misspelt_key_does_not") else { return };
    let check = ["-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec"];
    let file = repository(FOLDER).join("compose.yaml");
    let out = python(&schemas, &check, &file);
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stdout));
    let bad = altered(&file, "stop_grace_period", "stop_grace_perod");
    let out = python(&schemas, &check, &bad);
    std::fs::remove_file(&bad).unwrap();
    assert!(String::from_utf8_lossy(&out.stdout).contains("stop_grace_perod"), "{out:?}");
}

#[test]
fn the_kubernetes_manifest_fits_its_schema_and_a_misspelt_key_does_not() {
    let name = "the_kubernetes_manifest_fits_its_schema_and_a_misspelt_key_does_not";
    let Some(schemas) = given(name, "KEYRAIL_SCHEMAS") else { return };
    let file = repository(FOLDER).join("kubernetes.yaml");
    let bad = altered(&file, "readOnlyRootFilesystem", "readOnlyRootFileSystem");
    for version in KUBERNETES {
        let check = ["-m", "kubernetes_validate", "--strict", "--kubernetes-version", version];
        let out = python(&schemas, &check, &file);
        assert!(out.status.success(), "{out:?}");
        let out = python(&schemas, &check, &bad);
        assert!(!out.status.success() && format!("{out:?}").contains("readOnlyRootFileSystem"), "{out:?}");
    }
    std::fs::remove_file(&bad).unwrap();
}

/// A copy of the file with one word misspelt.
fn altered(file: &Path, word: &str, by: &str) -> PathBuf {
    let text = std::fs::read_to_string(file).unwrap();
    assert!(text.contains(word));
    let path = std::env::temp_dir().join(format!("keyrail-{by}-{}.yaml", std::process::id()));
    std::fs::write(&path, text.replace(word, by)).unwrap();
    path
}

#[test]
fn compose_runs_the_image_confined_and_waits_longer_than_a_stop_takes() {
    let name = "compose_runs_the_image_confined_and_waits_longer_than_a_stop_takes";
    let Some((_, document)) = compose(name) else { return };
    let services = &document["services"];
    assert!(is_pinned(services["kafka"]["image"].as_str().unwrap()));
    for service in ["topics", "keyrail"].map(|s| &services[s]) {
        assert_eq!(service["read_only"], true);
        assert_eq!(service["cap_drop"], json!(["ALL"]));
        assert_eq!(service["security_opt"], json!(["no-new-privileges:true"]));
        assert_eq!(service["environment"]["KAFKA_BOOTSTRAP_SERVERS"], "kafka:9092");
    }
    let keyrail = &services["keyrail"];
    let toml = std::fs::read_to_string(repository(FOLDER).join("keyrail.toml")).unwrap();
    assert!(seconds(keyrail["stop_grace_period"].as_str().unwrap()) > grace_seconds(&toml));
    assert_eq!(keyrail["ports"], json!(["127.0.0.1:8080:8080"]));
    let volumes = keyrail["volumes"].as_array().unwrap();
    assert!(volumes.iter().any(|v| v == "state:/var/lib/keyrail"), "{volumes:?}");
    let mut check = vec!["CMD".to_owned()];
    check.extend(health_check().into_iter().map(|word| word.replace('$', "$$")));
    assert_eq!(keyrail["healthcheck"]["test"], json!(check));
}

#[test]
fn the_pods_of_the_manifest_are_confined_and_probed_where_keyrail_listens() {
    let name = "the_pods_of_the_manifest_are_confined_and_probed_where_keyrail_listens";
    let Some(schemas) = given(name, "KEYRAIL_SCHEMAS") else { return };
    let documents = documents(&schemas, "kubernetes.yaml");
    let (deployment, map) = (of_kind(&documents, "Deployment"), of_kind(&documents, "ConfigMap"));
    let toml = map["data"]["keyrail.toml"].as_str().unwrap();
    let template = &deployment["spec"]["template"];
    let (pod, container) = (&template["spec"], &template["spec"]["containers"][0]);

    assert_eq!(deployment["spec"]["selector"]["matchLabels"], template["metadata"]["labels"]);
    let budget = of_kind(&documents, "PodDisruptionBudget");
    assert_eq!(budget["spec"]["selector"], deployment["spec"]["selector"]);
    assert!(pod["terminationGracePeriodSeconds"].as_u64().unwrap() > grace_seconds(toml));
    let port = &container["ports"][0];
    for (probe, path) in [("livenessProbe", "/livez"), ("readinessProbe", "/readyz")] {
        assert_eq!(container[probe]["httpGet"], json!({"path": path, "port": port["name"]}));
    }
    assert!(toml.contains(&format!("listen = \"0.0.0.0:{}\"", port["containerPort"])), "{toml}");

    let user = &pod["securityContext"];
    assert_eq!(user["runAsNonRoot"], true);
    assert_eq!(user["seccompProfile"], json!({"type": "RuntimeDefault"}));
    for key in ["runAsUser", "runAsGroup", "fsGroup"] {
        assert_eq!(user[key], USER, "{key} is the image's user");
    }
    let confined =
        json!({"allowPrivilegeEscalation": false, "readOnlyRootFilesystem": true, "capabilities": {"drop": ["ALL"]}});
    assert_eq!(container["securityContext"], confined);
    let names = |at: &Value| -> Vec<String> {
        at.as_array().unwrap().iter().map(|v| v["name"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(names(&container["volumeMounts"]), names(&pod["volumes"]));
}

#[test]
fn a_pod_whose_broker_is_away_is_alive_and_not_ready_and_stops_in_good_order() {
    let name = "a_pod_whose_broker_is_away_is_alive_and_not_ready_and_stops_in_good_order";
    let (Some(image), Some(guests), Some(schemas)) =
        (image(name), given(name, "KEYRAIL_GUESTS"), given(name, "KEYRAIL_SCHEMAS"))
    else {
        return;
    };
    let documents = documents(&schemas, "kubernetes.yaml");
    let pod = of_kind(&documents, "Deployment")["spec"]["template"]["spec"].clone();
    let map = of_kind(&documents, "ConfigMap");
    // A port of the container itself that nobody listens at, whatever the manifest names.
    let variable = format!("{}=127.0.0.1:9092", pod["containers"][0]["env"][0]["name"].as_str().unwrap());
    let stage = Stage::new(image);
    let manifest = std::fs::read_to_string(repository("examples/payments/payments.toml")).unwrap();
    let mounts = [
        stage.empty_dir(),
        stage.configuration(map["data"]["keyrail.toml"].as_str().unwrap()),
        stage.plugins("payments", &guests.join("payments.wasm"), &manifest),
    ];
    let places: Vec<_> =
        pod["containers"][0]["volumeMounts"].as_array().unwrap().iter().map(|m| &m["mountPath"]).collect();
    assert!(mounts.iter().all(|m| places.iter().any(|p| **p == m.to)), "{places:?}");

    let mut sandbox = Sandbox::start(image, &spec(mounts, &[&variable]));
    let probe = |path: &str| {
        let script = format!("exec 3<>/dev/tcp/127.0.0.1/8080; printf 'GET {path} HTTP/1.0\\r\\n\\r\\n' >&3; cat <&3");
        ["bash".to_owned(), "-c".to_owned(), script]
    };
    let says = |out: &Output, words: [&str; 2]| {
        let answer = String::from_utf8_lossy(&out.stdout);
        words.iter().all(|word| answer.contains(word))
    };
    let (live, ready) = (probe("/livez"), probe("/readyz"));
    sandbox.wait(&ready.each_ref().map(String::as_str), |out| says(out, [" 503 ", "127.0.0.1:9092"]));
    let out = sandbox.exec(&live.each_ref().map(String::as_str), "");
    assert!(says(&out, ["HTTP/1.", " 200 "]), "{out:?}");
    let compiled = sandbox.run(&["ls", "/var/lib/keyrail/state/code"], "");
    assert!(!compiled.is_empty(), "the broker is all that is missing");
    let check = health_check();
    let out = sandbox.exec(&check.iter().map(String::as_str).collect::<Vec<_>>(), "");
    assert_eq!(out.status.code(), Some(1), "compose's check sees that it is not ready: {out:?}");
    let grace = pod["terminationGracePeriodSeconds"].as_u64().unwrap();
    let (status, log) = sandbox.stop("TERM", Duration::from_secs(grace));
    assert_eq!(status.code(), Some(0), "{log}");
}
