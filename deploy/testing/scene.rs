//! A folder with stand-ins for all that the scripts call, and what a script did in it. Part of the test
//! `crates/cli/tests/deploy.rs`.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};

/// What the scripts use, beside what is stood in for and beside jq or python3.
const TOOLS: [&str; 5] = ["bash", "cat", "dirname", "sleep", "tr"];
pub(super) const SCRIPTS: [&str; 7] =
    ["all", "images", "network", "services", "store", "teardown", "verify"];
pub(super) const URL: &str = "https://rendezvous.example.run.app";
pub(super) const RELAY_URL: &str = "https://relay.example.run.app";
pub(super) const STORE_IP: &str = "10.0.0.3";
/// What `openssl` makes.
pub(super) const KEY: &str = "d1c2";
pub(super) const NAT_IP: &str = "203.0.113.7";
const NOT_FOUND: &str = "ERROR: (gcloud) Could not fetch resource: it was not found";

pub(super) fn deploy_dir() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../deploy")
        .canonicalize()
        .expect("the folder deploy/ is there")
}

pub(super) fn script(name: &str) -> PathBuf {
    deploy_dir().join(format!("{name}.sh"))
}

fn real_tool(name: &str) -> Option<PathBuf> {
    std::env::split_paths(&std::env::var_os("PATH")?)
        .map(|folder| folder.join(name))
        .find(|tool| tool.is_file())
}

/// The interpreter itself: what PATH has may be a script that needs more than a scene's PATH.
pub(super) fn python() -> Option<PathBuf> {
    let output = Command::new("python3")
        .args(["-c", "import sys; print(sys.executable, end='')"])
        .output()
        .ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned().into())
}

const SETTINGS: [(&str, &str); 3] =
    [("PROJECT", "my-project"), ("VERIFY_TIMEOUT_SEC", "0"), ("VERIFY_LOOKS", "1")];

pub(super) struct Scene {
    dir: PathBuf,
    rules: Vec<String>,
    settings: Vec<(&'static str, &'static str)>,
}

impl Drop for Scene {
    fn drop(&mut self) {
        // A folder left behind in the temporary directory fails nothing.
        let _ = fs::remove_dir_all(&self.dir);
    }
}

impl Scene {
    /// A project in which nothing exists yet, seen by somebody who is logged in.
    pub(super) fn fresh() -> Self {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let name = format!(
            "holepunch-deploy-{}-{}",
            std::process::id(),
            COUNT.fetch_add(1, Ordering::Relaxed)
        );
        let dir = std::env::temp_dir().join(name);
        fs::create_dir_all(dir.join("bin")).expect("the temporary directory takes a folder");
        let scene = Self { dir, rules: Vec::new(), settings: SETTINGS.to_vec() };
        for tool in TOOLS {
            scene.link(&real_tool(tool).expect("a common tool is installed"), tool);
        }
        match real_tool("jq") {
            Some(path) => scene.link(&path, "jq"),
            None => scene.link(&python().expect("jq or python3 is installed"), "python3"),
        }
        for tool in ["gcloud", "docker", "curl", "openssl"] {
            scene.link(&deploy_dir().join("testing/stand-in"), tool);
        }
        scene
            .refuses("gcloud * describe *", NOT_FOUND)
            .answers("gcloud projects describe *", "my-project")
            .answers("gcloud auth list *", "somebody@example.com")
            .answers("gcloud builds get-default-service-account *", "builder@example.com")
            .answers("gcloud run services describe rendezvous-service *", URL)
            .answers("gcloud run services describe relay-service *", RELAY_URL)
            .answers("gcloud redis instances describe *value*", STORE_IP)
            .answers("openssl rand *", KEY)
    }

    /// A deployment that works: the network stands, and two workers behind the NAT are linked.
    pub(super) fn deployed() -> Self {
        Self::fresh()
            .answers("gcloud * describe *", "it exists")
            .answers("gcloud compute addresses describe *", NAT_IP)
            .answers("gcloud compute routers nats describe *csv*", "True,")
            .answers(
                "gcloud compute routers nats describe *natIps*",
                "https://example.com/addresses/ip-worker-ip",
            )
            .answers("gcloud run services describe rendezvous-service *", URL)
            .answers("gcloud run services describe relay-service *", RELAY_URL)
            .answers("gcloud redis instances describe *value*", STORE_IP)
            .answers(
                "gcloud run services describe ip-worker-service *",
                "ip-worker-service-00001-abc",
            )
            .answers("gcloud logging read *", "instance-a\\ninstance-b\\ninstance-a")
            .answers("curl *", &list(&[worker("a", NAT_IP), worker("b", NAT_IP)]))
    }

    pub(super) fn link(&self, target: &Path, name: &str) {
        symlink(target, self.dir.join("bin").join(name)).expect("the scene's folder takes a link");
    }

    pub(super) fn without(self, tool: &str) -> Self {
        // Not there to begin with is as good.
        let _ = fs::remove_file(self.dir.join("bin").join(tool));
        self
    }

    /// A later rule goes before an earlier one.
    pub(super) fn answers(mut self, pattern: &str, text: &str) -> Self {
        self.rules.insert(0, format!("{pattern}\t0\t{text}\n"));
        self
    }

    pub(super) fn refuses(mut self, pattern: &str, text: &str) -> Self {
        self.rules.insert(0, format!("{pattern}\t1\t{text}\n"));
        self
    }

    pub(super) fn with(mut self, name: &'static str, value: &'static str) -> Self {
        self.settings.push((name, value));
        self
    }

    pub(super) fn run(&self, name: &str, options: &[&str]) -> Outcome {
        let mut arguments = vec![script(name).into_os_string()];
        arguments.extend(options.iter().map(Into::into));
        self.bash(&arguments)
    }

    pub(super) fn bash(&self, arguments: &[impl AsRef<OsStr>]) -> Outcome {
        let calls = self.dir.join("calls");
        fs::write(&calls, "").expect("the scene's folder takes a file");
        fs::write(self.dir.join("rules"), self.rules.concat())
            .expect("the scene's folder takes a file");
        let output = Command::new(self.dir.join("bin/bash"))
            .args(arguments)
            .env_clear()
            .env("PATH", self.dir.join("bin"))
            .env("HOME", &self.dir)
            .env("STAND_IN_DIR", &self.dir)
            .envs(self.settings.iter().copied())
            .stdin(Stdio::null())
            .output()
            .expect("bash starts");
        Outcome {
            succeeded: output.status.success(),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
            calls: fs::read_to_string(&calls)
                .expect("calls are text")
                .lines()
                .map(|l| l.replace('\x1f', " "))
                .collect(),
        }
    }
}

pub(super) struct Outcome {
    succeeded: bool,
    pub(super) stdout: String,
    pub(super) stderr: String,
    /// Name and arguments of each call, joined by spaces, in order.
    pub(super) calls: Vec<String>,
}

impl Outcome {
    #[track_caller]
    pub(super) fn expect_success(self) -> Self {
        assert!(self.succeeded, "it failed:\n{}", self.stderr);
        self
    }

    #[track_caller]
    pub(super) fn expect_failure(self, said: &[&str]) -> Self {
        assert!(!self.succeeded, "it succeeded:\n{}", self.stderr);
        for text in said {
            assert!(self.stderr.contains(text), "it did not say {text:?} but:\n{}", self.stderr);
        }
        self
    }

    /// The place of the one call that begins so.
    #[track_caller]
    pub(super) fn place(&self, beginning: &str) -> usize {
        let places: Vec<usize> =
            (0..self.calls.len()).filter(|&i| self.calls[i].starts_with(beginning)).collect();
        assert_eq!(places.len(), 1, "calls that begin with {beginning:?} in {:#?}", self.calls);
        places[0]
    }

    /// The one call that begins so has each of these words.
    #[track_caller]
    pub(super) fn expect_call(&self, beginning: &str, words: &[&str]) {
        let call = &self.calls[self.place(beginning)];
        for word in words {
            assert!(
                format!("{call} ").contains(&format!(" {word} ")),
                "{word:?} is not in {call:?}"
            );
        }
    }

    /// The calls that change something.
    pub(super) fn changes(&self) -> Vec<&str> {
        let reads = [
            " describe ",
            " auth list ",
            " get-default-service-account ",
            " logging read ",
            " buildx version",
            "curl ",
            "openssl ",
        ];
        self.calls
            .iter()
            .filter(|call| !reads.iter().any(|read| call.contains(read)))
            .map(String::as_str)
            .collect()
    }
}

pub(super) fn worker(id: &str, ip: &str) -> String {
    format!(
        r#""{id}":{{"websocket_observed_ip":"10.8.0.2","http_reported_public_ip":"{ip}","connected":true,"raw_state":1,"stun_reported_udp_ip":"{ip}","stun_reported_udp_port":40000}}"#
    )
}

pub(super) fn list(workers: &[String]) -> String {
    format!(
        r#"{{"connected_workers_count":{},"workers":{{{}}}}}"#,
        workers.len(),
        workers.join(",")
    )
}
