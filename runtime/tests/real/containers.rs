//! Real containers: needs root, and Debian's busybox-static.

use crate::lab::Lab;
use cri::v1::{self, ContainerState, NamespaceMode};

#[tokio::test]
async fn output_environment_and_exit_code() {
    let mut lab = Lab::new("output", 1).await;
    let sandbox = lab.sandbox().await;
    let mut config = lab.shell("app", "echo out; echo err >&2; echo $GREETING $FROM_IMAGE $HOSTNAME; pwd; exit 3");
    config.envs = vec![v1::KeyValue { key: "GREETING".to_owned(), value: "hello".to_owned() }];
    config.working_dir = "/made/here".to_owned();
    let id = lab.run(&sandbox, config).await;
    let status = lab.ended(&id).await;
    assert_eq!((status.exit_code, status.reason.as_str()), (3, "Error"));
    assert!(status.started_at > 0 && status.finished_at >= status.started_at);
    let mut log = lab.log("app");
    log.sort();
    assert_eq!(log, ["stderr F err", "stdout F /made/here", "stdout F hello yes output", "stdout F out"]);
    lab.remove_sandbox(&sandbox).await;
    assert_eq!(lab.leaks(&[sandbox]), [""; 0]);
}

#[tokio::test]
async fn the_inside_of_a_container() {
    let mut lab = Lab::new("inside", 2).await;
    let sandbox = lab.sandbox().await;
    let id = lab.run(&sandbox, lab.shell("app", "sleep 1000")).await;
    let checks = [
        ("hostname", "inside\n"),
        ("cat /etc/hostname", "inside\n"),
        ("cat /etc/resolv.conf", "nameserver 10.96.0.10\n"),
        ("ls /dev | grep -c -E '^(null|zero|full|random|urandom|tty|ptmx|pts|shm|fd|stdin|stdout|stderr)$'", "13\n"),
        ("cat /proc/1/comm", "sleep\n"),
        ("echo x 2>/dev/null > /proc/sys/kernel/hostname || echo refused", "refused\n"),
        ("head -c1 /proc/kcore | grep -c .", "0\n"),
        ("echo 1 > /sys/x 2>/dev/null || echo refused", "refused\n"),
        ("mknod /tmp/sda b 8 0 2>/dev/null || echo refused", "refused\n"),
        ("mount -t tmpfs x /tmp 2>/dev/null || echo refused", "refused\n"),
        ("touch /dev/shm/x && echo ok", "ok\n"),
        ("id -u; id -g", "0\n0\n"),
        ("grep -c . /proc/net/dev", "4\n"),
        ("grep Cap /proc/self/status | grep -c 00000000a00425fb", "3\n"),
        ("ls /sys/fs/cgroup | grep -c . > /dev/null && echo some", "some\n"),
        ("[ $(ls -d /proc/[0-9]* | grep -c .) -lt 10 ] && echo few", "few\n"),
    ];
    for (script, expected) in checks {
        assert_eq!(lab.exec(&id, script).await.1, expected, "{script}");
    }
    assert_eq!(lab.exec(&id, "exit 7").await.0, 7);
    lab.remove_sandbox(&sandbox).await;
    assert_eq!(lab.leaks(&[sandbox]), [""; 0]);
}

#[tokio::test]
async fn users_groups_and_security() {
    let mut lab = Lab::new("users", 3).await;
    let sandbox = lab.sandbox().await;
    let mut config =
        lab.shell("app", "id; echo $HOME; grep NoNewPrivs /proc/self/status; touch /x; echo to-stdout > /dev/stdout");
    config.linux = Some(v1::LinuxContainerConfig {
        security_context: Some(v1::LinuxContainerSecurityContext {
            run_as_username: "web".to_owned(),
            supplemental_groups: vec![3000],
            no_new_privs: true,
            readonly_rootfs: true,
            ..Default::default()
        }),
        ..Default::default()
    });
    let id = lab.run(&sandbox, config).await;
    let status = lab.ended(&id).await;
    let log = lab.log("app");
    assert!(log.contains(&"stdout F uid=101(web) gid=102(www) groups=102(www),200(logs),3000".to_owned()), "{log:?}");
    assert!(log.contains(&"stdout F /home".to_owned()), "{log:?}");
    assert!(log.contains(&"stdout F NoNewPrivs:\t1".to_owned()), "{log:?}");
    assert!(log.iter().any(|l| l.contains("Read-only file system")), "{log:?}");
    assert!(log.contains(&"stdout F to-stdout".to_owned()), "{log:?}");
    let user = status.user.expect("known").linux.expect("set");
    assert_eq!((user.uid, user.gid, user.supplemental_groups), (101, 102, vec![102, 200, 3000]));
    lab.remove_sandbox(&sandbox).await;
}

#[tokio::test]
async fn mounts() {
    let mut lab = Lab::new("mounts", 4).await;
    let sandbox = lab.sandbox().await;
    let (volume, file) = (lab.directory.join("volume"), lab.directory.join("file"));
    std::fs::create_dir(&volume).expect("made");
    std::fs::write(&file, "from the host").expect("written");
    let mount = |host: &std::path::Path, container: &str, readonly| v1::Mount {
        host_path: host.display().to_string(),
        container_path: container.to_owned(),
        readonly,
        ..Default::default()
    };
    let mut config =
        lab.shell("app", "cat /deep/down/file; echo hi > /data/x; echo no > /fixed/y || echo refused; cat /etc/hosts");
    config.mounts =
        vec![mount(&volume, "/data", false), mount(&volume, "/fixed", true), mount(&file, "/deep/down/file", true)];
    config.mounts.push(mount(&file, "/etc/hosts", false));
    let id = lab.run(&sandbox, config).await;
    assert_eq!(lab.ended(&id).await.exit_code, 0);
    let log = lab.log("app").join("\n");
    assert!(log.contains("from the hostrefused") || log.contains("refused"), "{log}");
    assert_eq!(std::fs::read_to_string(volume.join("x")).expect("written"), "hi\n");
    assert!(!volume.join("y").exists());
    let mut config = lab.shell("broken", "true");
    config.mounts = vec![mount(std::path::Path::new("/does/not/exist"), "/data", false)];
    let id = lab.create(&sandbox, config).await;
    let error = lab.start(&id).await.expect_err("no source");
    assert!(error.message().contains("mounting /does/not/exist to /data"), "{}", error.message());
    lab.remove_sandbox(&sandbox).await;
    assert_eq!(lab.leaks(&[sandbox]), [""; 0]);
}

#[tokio::test]
async fn what_cannot_be_started() {
    let mut lab = Lab::new("cannot", 5).await;
    let sandbox = lab.sandbox().await;
    for (command, complaint) in [
        ("nope", r#"exec: "nope": executable file not found in $PATH"#),
        ("/bin/nope", r#"exec: "/bin/nope": stat /bin/nope: no such file or directory"#),
        ("/etc/passwd", r#"exec: "/etc/passwd": permission denied"#),
    ] {
        let mut config = lab.shell("app", "");
        config.command = vec![command.to_owned()];
        let id = lab.create(&sandbox, config).await;
        let error = lab.start(&id).await.expect_err("cannot run");
        assert!(error.message().ends_with(complaint), "{}", error.message());
        let status = lab.status(&id).await;
        assert_eq!((status.exit_code, status.reason.as_str()), (128, "StartError"));
        assert!(status.message.ends_with(complaint), "{}", status.message);
        let request = v1::RemoveContainerRequest { container_id: id };
        lab.runtime.remove_container(request).await.expect("removed");
    }
    lab.remove_sandbox(&sandbox).await;
    assert_eq!(lab.leaks(&[sandbox]), [""; 0]);
}

#[tokio::test]
async fn out_of_memory() {
    let mut lab = Lab::new("oom", 6).await;
    let sandbox = lab.sandbox().await;
    let mut config = lab.shell("app", "dd if=/dev/zero of=/dev/null bs=64M count=1");
    let resources = v1::LinuxContainerResources {
        memory_limit_in_bytes: 16 << 20,
        cpu_shares: 102,
        cpu_quota: 50_000,
        cpu_period: 100_000,
        ..Default::default()
    };
    config.linux = Some(v1::LinuxContainerConfig { resources: Some(resources), ..Default::default() });
    config.command = ["dd", "if=/dev/zero", "of=/dev/null", "bs=64M", "count=1"].map(str::to_owned).to_vec();
    let id = lab.run(&sandbox, config).await;
    let status = lab.ended(&id).await;
    assert_eq!((status.exit_code, status.reason.as_str()), (137, "OOMKilled"));
    lab.remove_sandbox(&sandbox).await;
    assert_eq!(lab.leaks(&[sandbox]), [""; 0]);
}

#[tokio::test]
async fn stopping_with_grace_and_by_force() {
    let mut lab = Lab::new("stop", 7).await;
    let sandbox = lab.sandbox().await;
    let gentle =
        lab.run(&sandbox, lab.shell("gentle", "trap 'echo bye; exit 5' TERM; while :; do sleep 0.05; done")).await;
    let stubborn = lab.run(&sandbox, lab.shell("stubborn", "trap '' TERM; while :; do sleep 0.05; done")).await;
    // The trap must be set before the signal comes.
    tokio::time::sleep(std::time::Duration::from_millis(200)).await;
    for (id, timeout, code) in [(&gentle, 20, 5), (&stubborn, 1, 137)] {
        let request = v1::StopContainerRequest { container_id: id.clone(), timeout };
        lab.runtime.stop_container(request).await.expect("stopped");
        assert_eq!(lab.status(id).await.exit_code, code);
    }
    assert_eq!(lab.log("gentle"), ["stdout F bye"]);
    lab.remove_sandbox(&sandbox).await;
    assert_eq!(lab.leaks(&[sandbox]), [""; 0]);
}

#[tokio::test]
async fn containers_survive_a_crash_of_the_runtime() {
    let mut lab = Lab::new("survive", 8).await;
    let sandbox = lab.sandbox().await;
    let ip = lab.sandbox_ip(&sandbox).await;
    let script = "i=0; while :; do i=$((i+1)); echo line $i; sleep 0.02; [ -e /tmp/end ] && exit 9; done";
    let id = lab.run(&sandbox, lab.shell("app", script)).await;
    let created = lab.create(&sandbox, lab.shell("later", "echo late")).await;
    let before = lab.status(&id).await;
    lab.crash_and_restart().await;
    let after = lab.status(&id).await;
    assert_eq!(after.state(), ContainerState::ContainerRunning);
    assert_eq!((after.started_at, after.created_at), (before.started_at, before.created_at));
    assert_eq!(lab.sandbox_ip(&sandbox).await, ip);
    assert_eq!(lab.exec(&id, "touch /tmp/end").await.0, 0);
    assert_eq!(lab.ended(&id).await.exit_code, 9);
    let lines = lab.log("app");
    let expected: Vec<_> = (1..=lines.len()).map(|n| format!("stdout F line {n}")).collect();
    assert_eq!(lines, expected, "no line is lost");
    lab.start(&created).await.expect("starts after the crash");
    lab.ended(&created).await;
    let quick = lab.run(&sandbox, lab.shell("quick", "sleep 0.3; exit 4")).await;
    lab.crash_and_restart().await;
    assert_eq!(lab.ended(&quick).await.exit_code, 4);
    lab.remove_sandbox(&sandbox).await;
    assert_eq!(lab.leaks(&[sandbox]), [""; 0]);
}

#[tokio::test]
async fn a_killed_shim_takes_its_container_along() {
    let mut lab = Lab::new("shim", 9).await;
    let sandbox = lab.sandbox().await;
    let id = lab.run(&sandbox, lab.shell("app", "sleep 1000")).await;
    let shim = std::fs::read_dir("/proc").expect("readable").flatten().find_map(|entry| {
        let line = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
        let line = String::from_utf8_lossy(&line).into_owned();
        (line.contains("kubelab-shim: default/shim/app") && line.contains(&id)).then(|| entry.file_name())
    });
    let pid: i32 = shim.expect("found by its name").to_string_lossy().parse().expect("number");
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGKILL).expect("killed");
    let status = lab.ended(&id).await;
    assert_eq!((status.exit_code, status.reason.as_str()), (255, "Error"));
    lab.remove_sandbox(&sandbox).await;
    assert_eq!(lab.leaks(&[sandbox]), [""; 0]);
}

#[tokio::test]
async fn pods_reach_each_other_and_the_host() {
    let mut lab = Lab::new("network", 10).await;
    let (one, two) = (lab.sandbox().await, lab.sandbox().await);
    let (ip_one, ip_two) = (lab.sandbox_ip(&one).await, lab.sandbox_ip(&two).await);
    assert_ne!(ip_one, ip_two);
    let serve = "mkdir /www; echo welcome > /www/index.html; httpd -f -p 80 -h /www";
    lab.run(&one, lab.shell("web", serve)).await;
    let client = lab.run(&two, lab.shell("client", "sleep 1000")).await;
    let fetch = format!("for i in 1 2 3 4 5 6 7 8 9; do wget -q -O - http://{ip_one}/ && break; sleep 0.2; done");
    assert_eq!(lab.exec(&client, &fetch).await, (0, "welcome\n".to_owned()));
    let from_host = tokio::net::TcpStream::connect(format!("{ip_one}:80")).await;
    assert!(from_host.is_ok(), "{from_host:?}");
    let stats = v1::PodSandboxStatsRequest { pod_sandbox_id: one.clone() };
    let stats = lab.runtime.pod_sandbox_stats(stats).await.expect("stats").into_inner().stats.expect("set");
    let network = stats.linux.expect("set").network.expect("counted").default_interface.expect("set");
    assert!(network.rx_bytes.expect("counted").value > 0);
    lab.remove_sandbox(&one).await;
    lab.remove_sandbox(&two).await;
    assert_eq!(lab.leaks(&[one, two]), [""; 0]);
}

#[tokio::test]
async fn containers_of_a_pod_share_what_they_should() {
    let mut lab = Lab::new("share", 11).await;
    let mut config = lab.sandbox_config();
    let pod = v1::NamespaceOption { pid: NamespaceMode::Pod.into(), ..Default::default() };
    let context = v1::LinuxSandboxSecurityContext { namespace_options: Some(pod.clone()), ..Default::default() };
    config.linux.as_mut().expect("set").security_context = Some(context);
    let sandbox = lab.run_sandbox(config).await;
    let with_pod = |mut config: v1::ContainerConfig| {
        let context = v1::LinuxContainerSecurityContext { namespace_options: Some(pod.clone()), ..Default::default() };
        config.linux = Some(v1::LinuxContainerConfig { security_context: Some(context), ..Default::default() });
        config
    };
    let one = lab.run(&sandbox, with_pod(lab.shell("one", "touch /dev/shm/mark; sleep 4242"))).await;
    let two = lab.run(&sandbox, with_pod(lab.shell("two", "sleep 1000"))).await;
    let (_, seen) = lab.exec(&two, "ps; ls /dev/shm").await;
    assert!(seen.contains("sleep 4242") && seen.contains("mark"), "{seen}");
    let request = v1::StopContainerRequest { container_id: one.clone(), timeout: 0 };
    lab.runtime.stop_container(request).await.expect("stopped");
    assert_eq!(lab.status(&two).await.state(), ContainerState::ContainerRunning);
    lab.remove_sandbox(&sandbox).await;
    assert_eq!(lab.leaks(&[sandbox]), [""; 0]);
}

#[tokio::test]
async fn host_network_and_host_processes() {
    let mut lab = Lab::new("host", 12).await;
    let mut config = lab.sandbox_config();
    let node = NamespaceMode::Node.into();
    let options = v1::NamespaceOption { network: node, pid: node, ipc: node, ..Default::default() };
    let context = v1::LinuxSandboxSecurityContext { namespace_options: Some(options.clone()), ..Default::default() };
    config.linux.as_mut().expect("set").security_context = Some(context);
    let sandbox = lab.run_sandbox(config).await;
    assert_eq!(lab.sandbox_ip(&sandbox).await, "");
    let mut config = lab.shell("app", "sleep 999 & sleep 1000");
    let context = v1::LinuxContainerSecurityContext { namespace_options: Some(options), ..Default::default() };
    config.linux = Some(v1::LinuxContainerConfig { security_context: Some(context), ..Default::default() });
    let id = lab.run(&sandbox, config).await;
    let (_, pid) = lab.exec(&id, "test -e /proc/1/comm && ls -d /proc/[0-9]* | grep -c .").await;
    assert!(pid.trim().parse::<u32>().expect("number") > 10, "{pid}");
    lab.remove_sandbox(&sandbox).await;
    assert_eq!(lab.leaks(&[sandbox]), [""; 0]);
}

#[tokio::test]
async fn removal_is_idempotent_and_recovers_from_a_crash_in_the_middle() {
    let mut lab = Lab::new("remove", 13).await;
    let mut sandboxes = Vec::new();
    for _ in 0..3 {
        let sandbox = lab.sandbox().await;
        lab.run(&sandbox, lab.shell("app", "sleep 1000")).await;
        sandboxes.push(sandbox);
    }
    let mut removals = Vec::new();
    for sandbox in &sandboxes {
        let mut runtime = lab.runtime.clone();
        let request = v1::RemovePodSandboxRequest { pod_sandbox_id: sandbox.clone() };
        removals.push(tokio::spawn(async move { runtime.remove_pod_sandbox(request).await }));
    }
    let config = Some(lab.sandbox_config());
    let mut runtime = lab.runtime.clone();
    let half_made = tokio::spawn(async move {
        runtime.run_pod_sandbox(v1::RunPodSandboxRequest { config, ..Default::default() }).await
    });
    tokio::time::sleep(std::time::Duration::from_millis(3)).await;
    lab.crash_and_restart().await;
    for task in removals {
        let _ = task.await;
    }
    let _ = half_made.await;
    let left = lab.runtime.list_pod_sandbox(v1::ListPodSandboxRequest::default()).await.expect("listed").into_inner();
    for sandbox in left.items.iter().map(|s| &s.id).chain(&sandboxes) {
        lab.remove_sandbox(sandbox).await;
        lab.remove_sandbox(sandbox).await;
    }
    assert_eq!(lab.leaks(&sandboxes), [""; 0]);
}

#[tokio::test]
async fn logs_can_be_rotated() {
    let mut lab = Lab::new("rotate", 14).await;
    let sandbox = lab.sandbox().await;
    let id = lab
        .run(&sandbox, lab.shell("app", "echo first; while [ ! -e /tmp/go ]; do sleep 0.02; done; echo second"))
        .await;
    let log = lab.directory.join("logs/app.log");
    let written = async {
        while lab.log("app").is_empty() {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(5), written).await.expect("written");
    std::fs::rename(&log, lab.directory.join("logs/app.log.1")).expect("moved");
    let request = v1::ReopenContainerLogRequest { container_id: id.clone() };
    lab.runtime.reopen_container_log(request).await.expect("reopened");
    lab.exec(&id, "touch /tmp/go").await;
    lab.ended(&id).await;
    assert_eq!(lab.log("app"), ["stdout F second"]);
    lab.remove_sandbox(&sandbox).await;
}

#[tokio::test]
async fn the_demo_image_serves() {
    let mut lab = Lab::new("demo", 15).await;
    let sandbox = lab.sandbox().await;
    let ip = lab.sandbox_ip(&sandbox).await;
    let mut config = lab.shell("web", "");
    config.command = Vec::new();
    config.image = Some(v1::ImageSpec { image: "kubelab.io/demo".to_owned(), ..Default::default() });
    let id = lab.run(&sandbox, config).await;
    let answer = async {
        loop {
            if let Ok(mut stream) = tokio::net::TcpStream::connect(format!("{ip}:80")).await {
                use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
                stream.write_all(b"GET /a/b HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await.expect("sent");
                let mut text = String::new();
                stream.read_to_string(&mut text).await.expect("answered");
                return text;
            }
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
    };
    let text = tokio::time::timeout(std::time::Duration::from_secs(10), answer).await.expect("in time");
    assert!(text.ends_with(&format!("hostname: demo\naddress: {ip}\npath: /a/b\n")), "{text}");
    let request = v1::StopContainerRequest { container_id: id.clone(), timeout: 10 };
    lab.runtime.stop_container(request).await.expect("stopped");
    assert_eq!(lab.status(&id).await.exit_code, 0);
    lab.remove_sandbox(&sandbox).await;
}

#[tokio::test]
async fn pods_start_quickly() {
    let mut lab = Lab::new("quick", 16).await;
    let (mut times, mut sandboxes) = (Vec::new(), Vec::new());
    for _ in 0..15 {
        let began = tokio::time::Instant::now();
        let sandbox = lab.sandbox().await;
        let made = began.elapsed();
        let id = lab.create(&sandbox, lab.shell("app", "sleep 1000")).await;
        let created = began.elapsed();
        lab.start(&id).await.expect("started");
        times.push((began.elapsed(), made, created));
        sandboxes.push(sandbox);
    }
    times.sort();
    let (all, sandbox, created) = times[times.len() / 2];
    eprintln!("median of a pod: sandbox {sandbox:?}, container created {created:?}, started {all:?}");
    assert!(all < std::time::Duration::from_millis(300), "{times:?}");
    for sandbox in &sandboxes {
        lab.remove_sandbox(sandbox).await;
    }
    assert_eq!(lab.leaks(&sandboxes), [""; 0]);
}

#[tokio::test]
async fn a_port_of_the_host_leads_to_a_pod() {
    let mut lab = Lab::new("hostport", 17).await;
    let mut config = lab.sandbox_config();
    config.port_mappings = vec![v1::PortMapping { container_port: 80, host_port: 38_017, ..Default::default() }];
    let sandbox = lab.run_sandbox(config).await;
    let serve = "mkdir /www; echo welcome > /www/index.html; httpd -f -p 80 -h /www";
    lab.run(&sandbox, lab.shell("web", serve)).await;
    let connected = async {
        while tokio::net::TcpStream::connect("127.0.0.1:38017").await.is_err() {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(10), connected).await.expect("in time");
    lab.remove_sandbox(&sandbox).await;
    assert!(tokio::net::TcpStream::connect("127.0.0.1:38017").await.is_err());
    assert_eq!(lab.leaks(&[sandbox]), [""; 0]);
}
