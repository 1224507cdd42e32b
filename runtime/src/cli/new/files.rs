//! What a new project is made of, by language. The SDKs are those of this version.

/// A file's path in the project, and what stands in it; see [`super::filled`].
pub(super) type File = (&'static str, &'static str);

/// A language.
pub(super) struct Template {
    /// As people write it.
    pub(super) language: &'static str,
    /// The handler's source.
    pub(super) source: &'static str,
    /// The command for its own tests.
    pub(super) unit: &'static str,
    /// The command that fetches what builds it; empty: nothing is to be fetched.
    pub(super) prepare: &'static str,
    pub(super) files: &'static [File],
    /// What is other in the files than in the repository, such as the name by which a test imports the handler.
    pub(super) changes: &'static [(&'static str, &'static str)],
    /// By the folder that they lie below, as they are.
    pub(super) sdk: &'static [(&'static str, &'static [File])],
}

/// In every project.
pub(super) const COMMON: [File; 6] = [
    ("keyrail.toml", include_str!("templates/keyrail.toml")),
    ("plugins/{name}.toml", include_str!("templates/manifest.toml")),
    ("fixtures/first.jsonl", include_str!("templates/first.jsonl")),
    ("fixtures/first.expected.jsonl", include_str!("templates/first.expected.jsonl")),
    ("README.md", include_str!("templates/README.md")),
    (".gitignore", include_str!("templates/gitignore")),
];

/// The files below a folder of the repository.
macro_rules! below {
    ($folder:literal: $($name:literal),+ $(,)?) => { &[$(($name, include_str!(concat!("../../../../", $folder, $name)))),+] };
}

const RUST_SDK: &[File] = below!("sdk/rust/":
    "README.md",
    "src/context.rs",
    "src/contract.rs",
    "src/error.rs",
    "src/handler.rs",
    "src/handler/tests.rs",
    "src/host.rs",
    "src/http.rs",
    "src/http/tests.rs",
    "src/lib.rs",
    "src/message.rs",
    "src/metric.rs",
    "src/outcome.rs",
    "src/outcome/tests.rs",
    "src/send.rs",
    "src/setup.rs",
    "src/steps.rs",
    "src/steps/tests.rs",
    "src/testing/capture.rs",
    "src/testing/input.rs",
    "src/testing/mod.rs",
    "src/testing/outside.rs",
    "src/testing/tests.rs",
    "src/testing/world.rs",
    "src/wasm.rs",
    "wit/handler.wit",
);

const C_SDK: &[File] = below!("sdk/c/":
    "README.md",
    "include/keyrail.h",
    "include/keyrail_test.h",
    "src/generated/contract.c",
    "src/generated/contract.h",
    "src/http.inc",
    "src/keyrail.c",
    "src/memory.inc",
    "src/testing.c",
    "src/testing_http.inc",
);

const GO_SDK: &[File] = below!("sdk/go/":
    "README.md",
    "context.go",
    "go.mod",
    "http.go",
    "internal/contract/contract.go",
    "internal/contract/http.go",
    "internal/guest/exports_wasip1.go",
    "internal/guest/http.go",
    "internal/guest/http_wasip1.go",
    "internal/guest/imports_wasip1.go",
    "internal/guest/layout.go",
    "internal/guest/memory.go",
    "keyrail.go",
    "keyrailtest/host.go",
    "keyrailtest/outside.go",
    "keyrailtest/world.go",
    "log.go",
    "metrics.go",
    "outcome.go",
    "program.go",
    "serve.go",
    "serve_wasip1.go",
    "state.go",
);

const CPP_SDK: &[File] = below!("sdk/cpp/":
    "README.md",
    "include/keyrail.hpp",
    "include/keyrail_http.hpp",
    "include/keyrail_test.hpp",
);

const PYTHON_SDK: &[File] = below!("sdk/python/":
    "README.md",
    "pyproject.toml",
    "src/keyrail/__init__.py",
    "src/keyrail/__main__.py",
    "src/keyrail/_build.py",
    "src/keyrail/_context.py",
    "src/keyrail/_errors.py",
    "src/keyrail/_guest.py",
    "src/keyrail/_handler.py",
    "src/keyrail/_host.py",
    "src/keyrail/_http.py",
    "src/keyrail/_log.py",
    "src/keyrail/_memory.py",
    "src/keyrail/_metrics.py",
    "src/keyrail/_types.py",
    "src/keyrail/py.typed",
    "src/keyrail/testing.py",
    "src/keyrail/wit/handler.wit",
);

const JS_SDK: &[File] = below!("sdk/js/":
    "README.md",
    "package.json",
    "src/build.ts",
    "src/codec.ts",
    "src/context.ts",
    "src/contract.d.ts",
    "src/errors.ts",
    "src/guest.ts",
    "src/handler.ts",
    "src/host.ts",
    "src/http.ts",
    "src/index.ts",
    "src/log.ts",
    "src/memory.ts",
    "src/metrics.ts",
    "src/outside.ts",
    "src/places.ts",
    "src/random.ts",
    "src/testing.ts",
    "src/text.ts",
    "src/values.ts",
    "src/whole.ts",
    "tsconfig.json",
    "wit/handler.wit",
);

const ZIG_SDK: &[File] = below!("sdk/zig/":
    "README.md",
    "build.zig",
    "build.zig.zon",
    "src/http.zig",
    "src/http_tests.zig",
    "src/keyrail.zig",
    "src/testing.zig",
    "src/tests.zig",
    "src/types.zig",
    "src/wasm.zig",
);

const ASSEMBLYSCRIPT_SDK: &[File] = below!("sdk/assemblyscript/":
    "README.md",
    "assembly/abi.ts",
    "assembly/abort.ts",
    "assembly/context.ts",
    "assembly/contract.ts",
    "assembly/guest.ts",
    "assembly/http.ts",
    "assembly/log.ts",
    "assembly/metrics.ts",
    "assembly/outcome.ts",
    "assembly/text.ts",
    "bin/keyrail-asc.js",
    "index.ts",
    "lib/abi.js",
    "lib/build.d.ts",
    "lib/build.js",
    "lib/memory.js",
    "lib/module.js",
    "lib/outside.js",
    "lib/random.js",
    "lib/testing.d.ts",
    "lib/testing.js",
    "package.json",
    "tsconfig.json",
);

pub(super) const RUST: Template = Template {
    language: "Rust",
    source: "src/lib.rs",
    unit: "cargo test",
    prepare: "",
    files: &[
        ("Cargo.toml", include_str!("templates/rust/package.toml")),
        ("src/lib.rs", include_str!("templates/rust/src/lib.rs")),
        ("sdk/Cargo.toml", include_str!("templates/rust/sdk.toml")),
    ],
    changes: &[],
    sdk: &[("sdk", RUST_SDK)],
};

pub(super) const C: Template = Template {
    language: "C",
    source: "handler.c",
    unit: "mkdir -p target && cc -I sdk/include sdk/src/keyrail.c sdk/src/testing.c handler.c handler_test.c -o target/test && target/test",
    prepare: "",
    files: &[
        ("handler.c", include_str!("../../../../sdk/c/example/totals.c")),
        ("handler_test.c", include_str!("../../../../sdk/c/example/totals_test.c")),
    ],
    changes: &[],
    sdk: &[("sdk", C_SDK)],
};

pub(super) const GO: Template = Template {
    language: "Go",
    source: "main.go",
    unit: "go test",
    prepare: "",
    files: &[
        ("go.mod", include_str!("templates/go/module")),
        ("main.go", include_str!("../../../../sdk/go/example/totals/main.go")),
        ("main_test.go", include_str!("../../../../sdk/go/example/totals/main_test.go")),
    ],
    changes: &[],
    sdk: &[("sdk", GO_SDK)],
};

pub(super) const CPP: Template = Template {
    language: "C++",
    source: "handler.cpp",
    unit: "mkdir -p target && cc -I sdk/c/include -c sdk/c/src/keyrail.c sdk/c/src/testing.c && c++ -std=c++23 -fno-exceptions -I sdk/c/include \
           -I sdk/cpp/include handler.cpp handler_test.cpp keyrail.o testing.o -o target/test && target/test",
    prepare: "",
    files: &[
        ("handler.cpp", include_str!("../../../../sdk/cpp/example/totals.cpp")),
        ("handler_test.cpp", include_str!("../../../../sdk/cpp/example/totals_test.cpp")),
    ],
    changes: &[],
    sdk: &[("sdk/c", C_SDK), ("sdk/cpp", CPP_SDK)],
};

pub(super) const PYTHON: Template = Template {
    language: "Python",
    source: "handler.py",
    unit: "PYTHONPATH=sdk/src python3 -m unittest",
    prepare: "python3 -m venv .venv && .venv/bin/pip install componentize-py==0.25.1",
    files: &[
        ("pyproject.toml", include_str!("templates/python/project.toml")),
        ("handler.py", include_str!("../../../../sdk/python/example/totals.py")),
        ("test_handler.py", include_str!("../../../../sdk/python/example/test_totals.py")),
    ],
    changes: &[("from totals import", "from handler import")],
    sdk: &[("sdk", PYTHON_SDK)],
};

pub(super) const TYPESCRIPT: Template = Template {
    language: "TypeScript",
    source: "handler.ts",
    unit: "npm test",
    prepare: "npm install",
    files: &[
        ("package.json", include_str!("templates/typescript/package.json")),
        ("tsconfig.json", include_str!("templates/typescript/tsconfig.json")),
        ("handler.ts", include_str!("../../../../sdk/js/example/totals.ts")),
        ("handler.test.ts", include_str!("../../../../sdk/js/example/totals.test.ts")),
    ],
    changes: &[("./totals.js", "./handler.js")],
    sdk: &[("sdk", JS_SDK)],
};

pub(super) const ZIG: Template = Template {
    language: "Zig",
    source: "handler.zig",
    unit: "zig test --dep keyrail -Mroot=handler.zig -Mkeyrail=sdk/src/keyrail.zig",
    prepare: "",
    files: &[("handler.zig", include_str!("../../../../sdk/zig/example/totals.zig"))],
    changes: &[],
    sdk: &[("sdk", ZIG_SDK)],
};

pub(super) const ASSEMBLYSCRIPT: Template = Template {
    language: "AssemblyScript",
    source: "handler.ts",
    unit: "npm test",
    prepare: "npm install",
    files: &[
        ("package.json", include_str!("templates/assemblyscript/package.json")),
        ("tsconfig.json", include_str!("templates/assemblyscript/tsconfig.json")),
        ("handler.ts", include_str!("../../../../sdk/assemblyscript/example/totals.ts")),
        ("handler.test.js", include_str!("../../../../sdk/assemblyscript/example/totals.test.js")),
    ],
    changes: &[("\"totals.ts\"", "\"handler.ts\"")],
    sdk: &[("sdk", ASSEMBLYSCRIPT_SDK)],
};

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;
    use std::collections::BTreeSet;
    use std::path::{Path, PathBuf};

    /// Of an SDK's folder: no part of it.
    const APART: [&str; 8] =
        ["dist", "example", "node_modules", "target", "test", "tests", "__pycache__", ".mypy_cache"];
    /// Its repository's alone: what it is locked to and checked with. A project has a Cargo.toml of its own for it.
    const OWN: [&str; 3] = ["Cargo.toml", "package-lock.json", "requirements-dev.txt"];

    fn below(folder: &Path, from: &Path, into: &mut BTreeSet<String>) {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path: PathBuf = entry.unwrap().path();
            let name = path.file_name().unwrap().to_str().unwrap();
            if path.is_dir() && !APART.contains(&name) {
                below(&path, from, into);
            } else if path.is_file() && !OWN.contains(&name) && !name.ends_with("_test.go") {
                into.insert(path.strip_prefix(from).unwrap().to_str().unwrap().to_owned());
            }
        }
    }

    #[test]
    fn a_project_has_all_of_its_sdk() {
        let sdks = Path::new(env!("CARGO_MANIFEST_DIR")).join("../sdk");
        let all = [
            ("rust", RUST_SDK),
            ("c", C_SDK),
            ("go", GO_SDK),
            ("cpp", CPP_SDK),
            ("python", PYTHON_SDK),
            ("js", JS_SDK),
            ("zig", ZIG_SDK),
            ("assemblyscript", ASSEMBLYSCRIPT_SDK),
        ];
        for (folder, files) in all {
            let root = sdks.join(folder);
            let mut all = BTreeSet::new();
            below(&root, &root, &mut all);
            let has: BTreeSet<String> = files.iter().map(|(name, _)| (*name).to_owned()).collect();
            assert_eq!(has, all, "{folder}");
        }
    }

    #[test]
    fn tools_have_the_versions_that_the_sdks_pin() {
        let (_, builder) = PYTHON.prepare.rsplit_once(' ').unwrap();
        assert!(include_str!("../../../../sdk/python/requirements-dev.txt").lines().any(|pin| pin == builder));
        assert!(PYTHON.files[0].1.contains(&format!("\"{builder}\"")));
        let pins = |package: &str| -> BTreeSet<String> {
            let named = |line: &&str| line.contains("\"typescript\":") || line.contains("\"@types/node\":");
            package.lines().filter(named).map(|line| line.trim().trim_end_matches(',').to_owned()).collect()
        };
        let own = pins(include_str!("../../../../sdk/js/package.json"));
        assert_eq!((pins(TYPESCRIPT.files[0].1), own.len()), (own, 2));
    }

    #[test]
    fn the_sdk_for_rust_has_the_dependencies_that_it_has_in_its_own_repository() {
        let own = include_str!("../../../../sdk/rust/Cargo.toml");
        let copy = RUST.files.iter().find(|(name, _)| *name == "sdk/Cargo.toml").unwrap().1;
        let needs = |toml: &'static str| -> BTreeSet<&str> {
            toml.split("[dev-dependencies]").next().unwrap().lines().filter(|line| line.contains("{ version")).collect()
        };
        assert_eq!(needs(copy), needs(own));
        assert_eq!(needs(own).len(), 2);
    }
}
