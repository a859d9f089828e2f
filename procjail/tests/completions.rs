//! The completion scripts, loaded by the shells they are for. PowerShell is not in Debian: of its script
//! only the contents are looked at.

use std::io::Write as _;
use std::process::{Command, Stdio};

use tempfile::NamedTempFile;

const SHELLS: [&str; 5] = ["bash", "elvish", "fish", "powershell", "zsh"];

fn script(shell: &str) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_procjail"))
        .args(["completions", shell])
        .output()
        .expect("procjail");
    assert!(output.status.success(), "{shell}: {output:?}");
    String::from_utf8(output.stdout).expect("UTF-8")
}

/// What a shell that must be there prints, given the script's path and a program of its own.
fn ask(shell: &[&str], program: &str) -> String {
    let mut file = NamedTempFile::new().expect("a file");
    file.write_all(script(shell[0]).as_bytes())
        .expect("the script");
    let output = Command::new(shell[0])
        .args(&shell[1..])
        .args(["-c", program])
        .env("SCRIPT", file.path())
        .stdin(Stdio::null())
        .output()
        .unwrap_or_else(|error| panic!("cannot run {}: {error}; .ci/run installs it", shell[0]));
    let complaints = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success() && complaints.is_empty(),
        "{}: {}: {complaints}",
        shell[0],
        output.status
    );
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

#[test]
fn every_command_is_in_every_script_but_the_hidden_one() {
    let command = procjail::cli::command();
    let shown: Vec<_> = command
        .get_subcommands()
        .filter(|command| !command.is_hide_set())
        .map(|command| command.get_name())
        .collect();
    assert!(shown.contains(&"trace") && shown.contains(&"completions"));
    for shell in SHELLS {
        let script = script(shell);
        for name in &shown {
            assert!(script.contains(name), "{shell} lacks {name}");
        }
        for option in ["cgroup-parent", "all-signals", "dry-run", "version"] {
            assert!(script.contains(option), "{shell} lacks --{option}");
        }
        assert!(!script.contains("misbehave"), "{shell} offers misbehave");
    }
}

#[test]
fn bash_completes() {
    // As bash does it: the name of the command, the word, the one before it.
    let complete = |words: &str| {
        let program = format!(
            r#". "$SCRIPT"
            COMP_WORDS=(procjail {words})
            COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1))
            complete -p procjail >/dev/null || exit
            _procjail procjail "${{COMP_WORDS[COMP_CWORD]}}" "${{COMP_WORDS[COMP_CWORD - 1]}}"
            echo "${{COMPREPLY[*]}}""#
        );
        ask(&["bash", "--norc", "--noprofile"], &program)
    };
    assert_eq!(complete("tr"), "trace");
    assert_eq!(complete("trace --all"), "--all-signals");
    assert_eq!(complete("trace --format ''"), "text json");
    assert_eq!(complete("misb"), "");
}

#[test]
fn fish_completes() {
    let complete = |line: &str| {
        let program = format!(r#"source "$SCRIPT"; and complete --do-complete "{line}""#);
        ask(&["fish", "--no-config"], &program)
    };
    assert_eq!(
        complete("procjail tr"),
        "trace\tRun APP as PID 1 of a jail and tell, from the kernel's own events, what happens to it"
    );
    assert!(complete("procjail trace --all").starts_with("--all-signals\t"));
    assert_eq!(complete("procjail misb"), "");
}

#[test]
fn elvish_completes() {
    // Its editor, which chooses by the beginning of the word, is there on a terminal only.
    let complete = |line: &str| {
        let program = format!(
            "var completion: = (ns [&arg-completer=[&]])
            var edit: = (ns [&completion:=$completion: &complex-candidate~={{|name &display=''| put $name}}])
            eval (slurp < $E:SCRIPT) &ns=(ns [&edit:=$edit:])
            $edit:completion:arg-completer[procjail] {line} | each {{|word| echo $word }}"
        );
        let words = ask(&["elvish", "-norc"], &program);
        words.lines().map(str::to_owned).collect::<Vec<_>>()
    };
    let commands = complete("procjail tr");
    assert!(commands.iter().any(|word| word == "trace"), "{commands:?}");
    assert!(commands.iter().all(|word| word != "misbehave"));
    let options = complete("procjail trace --all");
    assert!(options.iter().any(|word| word == "--all-signals"));
}

#[test]
fn zsh_takes_the_script() {
    let program = r#"zsh -n "$SCRIPT" && autoload -U compinit && compinit -D && . "$SCRIPT" && echo "$_comps[procjail]""#;
    assert_eq!(ask(&["zsh", "-f"], program), "_procjail");
}

#[test]
fn an_unknown_shell_is_refused_with_the_known_ones() {
    let output = Command::new(env!("CARGO_BIN_EXE_procjail"))
        .args(["completions", "csh"])
        .output()
        .expect("procjail");
    assert_eq!(output.status.code(), Some(2));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(SHELLS.iter().all(|shell| said.contains(shell)), "{said}");
}
