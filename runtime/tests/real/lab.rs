//! A runtime process of its own for each test, with a busybox image, and the search for what it may have left.

use std::fs;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use cri::images::image_loader_client::ImageLoaderClient;
use cri::transport::Transport;
use cri::v1::image_service_client::ImageServiceClient;
use cri::v1::runtime_service_client::RuntimeServiceClient;
use cri::v1::{self, ContainerState};

pub const BUSYBOX: &str = "busybox:test";
const PATIENCE: Duration = Duration::from_secs(30);

/// A runtime and its directories.
pub struct Lab {
    pub directory: PathBuf,
    pub name: String,
    pod_cidr: String,
    process: Child,
    pub runtime: RuntimeServiceClient<Transport>,
    pub images: ImageServiceClient<Transport>,
}

impl Drop for Lab {
    fn drop(&mut self) {
        // Whatever a failed test left behind goes with its cgroups and shims.
        let _ = self.process.kill();
        let _ = self.process.wait();
        for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
            let pid = entry.file_name().to_string_lossy().parse::<i32>();
            if let Ok(pid) = pid
                && self.is_ours(&entry.path())
            {
                let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGKILL);
            }
        }
        for mount in self.mounts() {
            let _ = Command::new("umount").args(["-l", &mount]).output();
        }
        self.remove_cgroups();
        let table = format!("kubelab_pods_{}", self.pod_cidr.replace(['.', '/'], "_"));
        let _ = Command::new("nft").args(["delete", "table", "ip", &table]).output();
        let _ = fs::remove_dir_all(&self.directory);
    }
}

impl Lab {
    /// A new runtime. `subnet` must be the test's own.
    pub async fn new(name: &str, subnet: u8) -> Self {
        let directory = PathBuf::from(format!("/tmp/kubelab-runtime-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&directory);
        fs::create_dir_all(&directory).expect("directory");
        let pod_cidr = format!("10.213.{subnet}.0/24");
        let process = spawn(&directory, &pod_cidr);
        let (runtime, images) = clients(&directory).await;
        let mut lab = Self { name: name.to_owned(), pod_cidr, process, runtime, images, directory };
        lab.load_busybox().await;
        lab
    }

    async fn load_busybox(&mut self) {
        let archive = self.directory.join("busybox.tar");
        fs::write(&archive, busybox_archive()).expect("written");
        let mut loader = ImageLoaderClient::new(channel(&self.directory));
        let request = cri::images::LoadRequest { path: archive.display().to_string() };
        let loaded = loader.load(request).await.expect("loaded").into_inner();
        assert_eq!(loaded.images[0].names, ["docker.io/library/busybox:test"]);
    }

    /// Kills the runtime as a crash would, and starts another one.
    pub async fn crash_and_restart(&mut self) {
        self.process.kill().expect("killed");
        self.process.wait().expect("reaped");
        self.process = spawn(&self.directory, &self.pod_cidr);
        (self.runtime, self.images) = clients(&self.directory).await;
    }

    pub fn cgroup_parent(&self) -> String {
        format!("/kubelab-test-{}-{}/pod", self.name, std::process::id())
    }

    pub fn sandbox_config(&self) -> v1::PodSandboxConfig {
        v1::PodSandboxConfig {
            metadata: Some(v1::PodSandboxMetadata {
                name: self.name.clone(),
                uid: "1".to_owned(),
                namespace: "default".to_owned(),
                attempt: 0,
            }),
            hostname: self.name.clone(),
            log_directory: self.directory.join("logs").display().to_string(),
            dns_config: Some(v1::DnsConfig { servers: vec!["10.96.0.10".to_owned()], ..Default::default() }),
            linux: Some(v1::LinuxPodSandboxConfig { cgroup_parent: self.cgroup_parent(), ..Default::default() }),
            ..Default::default()
        }
    }

    pub async fn run_sandbox(&mut self, config: v1::PodSandboxConfig) -> String {
        let request = v1::RunPodSandboxRequest { config: Some(config), ..Default::default() };
        self.runtime.run_pod_sandbox(request).await.expect("sandbox").into_inner().pod_sandbox_id
    }

    pub async fn sandbox(&mut self) -> String {
        self.run_sandbox(self.sandbox_config()).await
    }

    pub async fn sandbox_ip(&mut self, id: &str) -> String {
        let request = v1::PodSandboxStatusRequest { pod_sandbox_id: id.to_owned(), verbose: false };
        let status = self.runtime.pod_sandbox_status(request).await.expect("status").into_inner().status;
        status.expect("set").network.expect("set").ip
    }

    pub fn shell(&self, name: &str, script: &str) -> v1::ContainerConfig {
        v1::ContainerConfig {
            metadata: Some(v1::ContainerMetadata { name: name.to_owned(), attempt: 0 }),
            image: Some(v1::ImageSpec { image: BUSYBOX.to_owned(), ..Default::default() }),
            command: vec!["sh".to_owned(), "-c".to_owned(), script.to_owned()],
            log_path: format!("{name}.log"),
            ..Default::default()
        }
    }

    pub async fn create(&mut self, sandbox: &str, config: v1::ContainerConfig) -> String {
        let request = v1::CreateContainerRequest {
            pod_sandbox_id: sandbox.to_owned(),
            config: Some(config),
            sandbox_config: None,
        };
        self.runtime.create_container(request).await.expect("created").into_inner().container_id
    }

    pub async fn start(&mut self, id: &str) -> Result<(), tonic::Status> {
        let request = v1::StartContainerRequest { container_id: id.to_owned() };
        self.runtime.start_container(request).await.map(|_| ())
    }

    /// Creates and starts.
    pub async fn run(&mut self, sandbox: &str, config: v1::ContainerConfig) -> String {
        let id = self.create(sandbox, config).await;
        self.start(&id).await.expect("started");
        id
    }

    pub async fn status(&mut self, id: &str) -> v1::ContainerStatus {
        let request = v1::ContainerStatusRequest { container_id: id.to_owned(), verbose: false };
        self.runtime.container_status(request).await.expect("status").into_inner().status.expect("set")
    }

    /// Waits, by the runtime's events, until the container has ended.
    pub async fn ended(&mut self, id: &str) -> v1::ContainerStatus {
        let mut events = self.runtime.get_container_events(v1::GetEventsRequest {}).await.expect("events").into_inner();
        let wait = async {
            loop {
                let status = self.status(id).await;
                if status.state() == ContainerState::ContainerExited {
                    return status;
                }
                events.message().await.expect("open").expect("not ended");
            }
        };
        tokio::time::timeout(PATIENCE, wait).await.expect("ends in time")
    }

    pub async fn exec(&mut self, id: &str, script: &str) -> (i32, String) {
        let request = v1::ExecSyncRequest {
            container_id: id.to_owned(),
            cmd: vec!["sh".to_owned(), "-c".to_owned(), script.to_owned()],
            timeout: 20,
        };
        let response = self.runtime.exec_sync(request).await.expect("executed").into_inner();
        (response.exit_code, String::from_utf8_lossy(&response.stdout).into_owned())
    }

    /// The messages in a container's log, without times.
    pub fn log(&self, name: &str) -> Vec<String> {
        let text = fs::read_to_string(self.directory.join("logs").join(format!("{name}.log"))).unwrap_or_default();
        text.lines().map(|l| l.split_once(' ').map_or(l, |(_, rest)| rest).to_owned()).collect()
    }

    pub async fn remove_sandbox(&mut self, id: &str) {
        let request = v1::RemovePodSandboxRequest { pod_sandbox_id: id.to_owned() };
        self.runtime.remove_pod_sandbox(request).await.expect("removed");
    }

    fn mounts(&self) -> Vec<String> {
        let text = fs::read_to_string("/proc/self/mountinfo").expect("readable");
        let points = text.lines().filter_map(|l| l.split(' ').nth(4).map(str::to_owned));
        points.filter(|p| p.starts_with(&*self.directory.to_string_lossy())).collect()
    }

    /// What a failed test left; the kernel lets a group go shortly after its last process.
    fn remove_cgroups(&self) {
        let parent = self.cgroup_parent();
        for hierarchy in fs::read_dir("/sys/fs/cgroup").into_iter().flatten().flatten() {
            let pod = hierarchy.path().join(parent.trim_start_matches('/'));
            for group in fs::read_dir(&pod).into_iter().flatten().flatten().filter(|e| e.path().is_dir()) {
                let gone = (0..100).any(|_| {
                    std::thread::sleep(Duration::from_millis(5));
                    fs::remove_dir(group.path()).is_ok()
                });
                if !gone {
                    eprintln!("{} is left", group.path().display());
                }
            }
            let _ = fs::remove_dir(&pod);
            let _ = pod.parent().map(fs::remove_dir);
        }
    }

    fn is_ours(&self, process: &Path) -> bool {
        let line = fs::read(process.join("cmdline")).unwrap_or_default();
        let line = String::from_utf8_lossy(&line).replace('\0', " ");
        let helper = line.contains(" shim ") || line.contains(" pause ");
        helper && line.contains(&*self.directory.to_string_lossy())
    }

    /// Everything of ours that still exists.
    pub fn leaks(&self, sandboxes: &[String]) -> Vec<String> {
        let mut found: Vec<String> = self.mounts();
        let processes = fs::read_dir("/proc").expect("readable").flatten().filter(|e| self.is_ours(&e.path()));
        found.extend(processes.map(|e| format!("process {:?}", e.file_name())));
        for sandbox in sandboxes {
            let interface = format!("/sys/class/net/kl{}", &sandbox[..11]);
            found.extend(Path::new(&interface).exists().then_some(interface));
        }
        let parent = self.cgroup_parent();
        let top = parent.trim_start_matches('/').split('/').next().expect("not empty").to_owned();
        for hierarchy in fs::read_dir("/sys/fs/cgroup").expect("readable").flatten() {
            let directory = hierarchy.path().join(&top);
            found.extend(directory.exists().then(|| directory.display().to_string()));
        }
        for kind in ["sandboxes", "containers"] {
            let entries = fs::read_dir(self.directory.join("state").join(kind)).expect("readable").flatten();
            found.extend(entries.map(|e| e.path().display().to_string()));
        }
        found
    }
}

fn spawn(directory: &Path, pod_cidr: &str) -> Child {
    let log = fs::File::options().create(true).append(true).open(directory.join("runtime.log")).expect("log");
    Command::new(env!("CARGO_BIN_EXE_runtime"))
        .args(["--listen", &format!("unix://{}", directory.join("cri.sock").display())])
        .arg("--root")
        .arg(directory.join("root"))
        .arg("--state")
        .arg(directory.join("state"))
        .args(["--pod-cidr", pod_cidr, "--runtime", "linux"])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log)
        .process_group(0)
        .spawn()
        .expect("runtime starts")
}

fn channel(directory: &Path) -> Transport {
    cri::transport::connect(&format!("unix://{}", directory.join("cri.sock").display())).expect("address")
}

async fn clients(directory: &Path) -> (RuntimeServiceClient<Transport>, ImageServiceClient<Transport>) {
    let ready = async {
        loop {
            let channel = channel(directory);
            let mut runtime = RuntimeServiceClient::new(channel.clone());
            if runtime.version(v1::VersionRequest::default()).await.is_ok() {
                return (runtime, ImageServiceClient::new(channel));
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    let log = || fs::read_to_string(directory.join("runtime.log")).unwrap_or_default();
    tokio::time::timeout(PATIENCE, ready).await.unwrap_or_else(|_| panic!("the runtime does not answer: {}", log()))
}

/// Builds a docker-archive of one layer: busybox and a few users.
pub fn busybox_archive() -> Vec<u8> {
    let mut layer = tar::Builder::new(Vec::new());
    let mut add = |path: &str, mode: u32, kind: tar::EntryType, data: &[u8], link: Option<&str>| {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(kind);
        header.set_mode(mode);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(0);
        header.set_size(data.len() as u64);
        match link {
            Some(target) => layer.append_link(&mut header, path, target).expect("in memory"),
            None => layer.append_data(&mut header, path, data).expect("in memory"),
        }
    };
    let busybox = fs::read("/bin/busybox").expect("busybox-static is installed");
    add("bin/busybox", 0o755, tar::EntryType::Regular, &busybox, None);
    let tools = [
        "sh", "cat", "echo", "sleep", "id", "ls", "env", "pwd", "hostname", "ip", "wget", "httpd", "mount", "kill",
        "tty", "stty", "dd", "head", "tail", "grep", "touch", "stat", "ps", "true", "false", "test", "mknod", "nc",
        "yes", "mkdir",
    ];
    for tool in tools {
        add(&format!("bin/{tool}"), 0o777, tar::EntryType::Symlink, &[], Some("busybox"));
    }
    for directory in ["tmp/", "etc/", "home/", "root/"] {
        add(directory, 0o755, tar::EntryType::Directory, &[], None);
    }
    let passwd = "root:x:0:0:root:/root:/bin/sh\nweb:x:101:102::/home:/bin/sh\n";
    add("etc/passwd", 0o644, tar::EntryType::Regular, passwd.as_bytes(), None);
    add("etc/group", 0o644, tar::EntryType::Regular, b"root:x:0:\nwww:x:102:\nlogs:x:200:web\n", None);
    let layer = layer.into_inner().expect("in memory");
    let digest = sha256(&layer);
    let config = serde_json::json!({
        "architecture": "amd64", "os": "linux",
        "config": {"Cmd": ["sh"], "Env": ["PATH=/bin", "FROM_IMAGE=yes"]},
        "rootfs": {"type": "layers", "diff_ids": [format!("sha256:{digest}")]},
    });
    let manifest = serde_json::json!([{"Config": "config.json", "RepoTags": [BUSYBOX], "Layers": ["layer.tar"]}]);
    let mut archive = tar::Builder::new(Vec::new());
    let files = [
        ("layer.tar", layer),
        ("config.json", config.to_string().into_bytes()),
        ("manifest.json", manifest.to_string().into_bytes()),
    ];
    for (name, data) in files {
        let mut header = tar::Header::new_gnu();
        header.set_mode(0o644);
        header.set_size(data.len() as u64);
        archive.append_data(&mut header, name, &data[..]).expect("in memory");
    }
    archive.into_inner().expect("in memory")
}

fn sha256(bytes: &[u8]) -> String {
    use sha2::Digest as _;
    sha2::Sha256::digest(bytes).iter().map(|b| format!("{b:02x}")).collect()
}
