//! Programs that people run.

use std::time::Duration;

use procjail_tests::{scene, wait_until};

#[test]
fn a_shell_pipeline() {
    scene(|scene| {
        let finished = scene
            .trace(&[], &["/bin/sh", "-c", "seq 1000 | grep 7 | wc -l"])
            .finish()
            .expect_code(0);
        assert_eq!(finished.stdout.trim(), "271");
        let trace = finished.trace();
        trace.expect_complete();
        let mut programs: Vec<_> = trace
            .execs()
            .iter()
            .map(|(_, exec)| exec.argv[0].clone())
            .collect();
        assert_eq!(programs.remove(0), "/bin/sh");
        programs.sort();
        assert_eq!(programs, ["grep", "seq", "wc"]);
        let first_fork = trace.forks()[0].0;
        assert_eq!(first_fork.task.jail_pid, Some(1));
        assert!(trace.reaps().len() >= 3, "the shell collects its children");
        assert_eq!(trace.footer().zombies, 0);
    });
}

#[test]
fn python_multiprocessing() {
    scene(|scene| {
        let script = "import multiprocessing as m\n\
                      def f(x): return x * x\n\
                      if __name__ == '__main__':\n\
                      \x20   with m.get_context('fork').Pool(3) as p: print(sum(p.map(f, range(100))))\n";
        let file = scene.path("squares.py");
        std::fs::write(&file, script).expect("a file");
        let finished = scene
            .trace(&[], &["/usr/bin/python3", &file.display().to_string()])
            .finish()
            .expect_code(0);
        assert_eq!(finished.stdout, "328350\n");
        let trace = finished.trace();
        trace.expect_complete();
        let processes = trace
            .forks()
            .iter()
            .filter(|(_, fork)| !fork.thread)
            .count();
        assert_eq!(processes, 3);
        // The pool ends its workers by SIGTERM, or they end before it comes: whoever died of a SIGTERM
        // was sent one by PID 1.
        for worker in 2..=4 {
            let (_, exit) = trace.exit_of(worker);
            match &exit.status.signal {
                Some(signal) => {
                    assert_eq!(signal.name, "SIGTERM");
                    let sent = trace.signals_to(worker, libc::SIGTERM);
                    assert_eq!(sent.first().expect("a SIGTERM").0.task.jail_pid, Some(1));
                }
                None => assert_eq!(exit.status.code, Some(0)),
            }
        }
        assert_eq!(trace.footer().processes, 4);
    });
}

#[test]
fn redis_stops_gracefully() {
    scene(|scene| {
        let directory = scene.directory().display().to_string();
        let socket = scene.path("redis.sock");
        let running = scene
            .trace(
                &["--memory", "256M"],
                &[
                    "/usr/bin/redis-server",
                    "--port",
                    "0",
                    "--unixsocket",
                    &socket.display().to_string(),
                    "--dir",
                    &directory,
                    "--save",
                    "",
                    "--daemonize",
                    "no",
                ],
            )
            .spawn();
        wait_until("redis' socket", Duration::from_secs(20), || {
            socket.exists().then_some(())
        });
        std::thread::sleep(Duration::from_millis(200));
        running.signal(libc::SIGTERM);
        let finished = running.finish().expect_code(0);
        assert!(
            finished.stdout.contains("User requested shutdown"),
            "{}",
            finished.stdout
        );
        let trace = finished.trace();
        trace.expect_complete();
        assert_eq!(trace.handled_by(1, libc::SIGTERM).len(), 1);
        assert!(trace.kills().is_empty());
        assert_eq!(trace.exit_of(1).1.status.code, Some(0));
    });
}

#[test]
fn nginx_stops_with_its_workers() {
    scene(|scene| {
        let directory = scene.directory().display().to_string();
        let config = scene.path("nginx.conf");
        let text = format!(
            "daemon off; worker_processes 2; user root; pid {directory}/pid; error_log stderr notice;\n\
             events {{ worker_connections 16; }}\n\
             http {{ access_log off; client_body_temp_path {directory}/a; proxy_temp_path {directory}/b;\n\
             fastcgi_temp_path {directory}/c; uwsgi_temp_path {directory}/d; scgi_temp_path {directory}/e;\n\
             server {{ listen unix:{directory}/nginx.sock; }} }}\n"
        );
        std::fs::write(&config, text).expect("a file");
        let running = scene
            .trace(
                &[],
                &["/usr/sbin/nginx", "-c", &config.display().to_string()],
            )
            .spawn();
        wait_until("nginx' pid file", Duration::from_secs(20), || {
            scene.path("pid").exists().then_some(())
        });
        std::thread::sleep(Duration::from_millis(300));
        running.signal(libc::SIGTERM);
        let finished = running.finish().expect_code(0);
        let trace = finished.trace();
        trace.expect_complete();
        assert_eq!(trace.handled_by(1, libc::SIGTERM).len(), 1);
        // The master tells its workers, collects them, and ends.
        let forks = trace.forks();
        let workers: Vec<_> = forks
            .iter()
            .filter(|(event, fork)| event.task.jail_pid == Some(1) && !fork.thread)
            .filter_map(|(_, fork)| fork.child.jail_pid)
            .collect();
        assert_eq!(workers.len(), 2);
        for worker in workers {
            // It tells them over a socket; a signal is its second choice.
            assert_eq!(trace.exit_of(worker).1.status.code, Some(0));
        }
        let reaps = trace.reaps();
        assert_eq!(
            reaps
                .iter()
                .filter(|(event, _)| event.task.jail_pid == Some(1))
                .count(),
            2
        );
    });
}
