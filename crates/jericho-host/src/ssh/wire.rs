//! What goes to the shell of the other end, and how its answer is taken apart.
//!
//! The command that ssh sends is always the same short line ([`BOOTSTRAP`]), which every login
//! shell understands and which shows nothing in a process list. It reads one line from its input:
//! a program for `sh`, with the arguments and the environment of the command, in a form that has
//! only plain ASCII. Input of the command itself follows, and then, as lines, the words by which
//! the command is ended.
//!
//! Both streams that come back are taken apart by a mark that is chosen anew for each command:
//! what the login shell prints, `mark b`, what the command prints, `mark e`, a report.

use std::ffi::{OsStr, OsString};
use std::fmt::Write as _;
use std::os::unix::ffi::OsStrExt;

use crate::command::Environment;
use crate::quote::{NulInArgument, quote};

/// The one line that a login shell is given. No environment comes in but the path to find tools.
pub(super) const BOOTSTRAP: &str =
    r#"exec env -i "PATH=$PATH" /bin/sh -c 'IFS= read -r j; eval "$(printf %b "$j")"'"#;

const BEGIN: &str = include_str!("remote/begin.sh");
const COMMAND: &str = include_str!("remote/command.sh");
const FILES: &str = include_str!("remote/files.sh");

/// The first byte of a mark: seldom in anything that is printed.
const MARK: u8 = 0x1e;

/// A program for the shell of the other end, as it is being written.
pub(super) struct Script(Vec<u8>);

impl Script {
    fn new(mark: &str, files: &[&str]) -> Self {
        let mut this = Self(Vec::with_capacity(8 << 10));
        for text in files {
            for line in text.lines().map(str::trim_start).filter(|l| !l.is_empty() && !l.starts_with('#')) {
                this.line(line.as_bytes());
            }
        }
        this.line(format!("j_mark={mark}").as_bytes());
        this
    }

    /// One with what a command needs.
    pub(super) fn command(mark: &str) -> Self {
        Self::new(mark, &[BEGIN, COMMAND])
    }

    /// One with what a step on files needs.
    pub(super) fn files(mark: &str) -> Self {
        Self::new(mark, &[BEGIN, FILES])
    }

    fn line(&mut self, line: &[u8]) {
        self.0.extend_from_slice(line);
        self.0.push(b'\n');
    }

    /// Sets a variable of the program.
    pub(super) fn set(&mut self, name: &str, value: impl AsRef<OsStr>) -> Result<(), NulInArgument> {
        let value = quote(value.as_ref())?;
        self.line(&[name.as_bytes(), b"=", value.as_bytes()].concat());
        Ok(())
    }

    /// The functions that set `env` and start the command with it.
    pub(super) fn environment(&mut self, env: &Environment) -> Result<(), NulInArgument> {
        let mut special = OsString::new();
        self.line(b"j_env() {\n:");
        for (name, value) in env.iter() {
            if may_be_exported(name.as_bytes()) {
                let line = [b"export ", name.as_bytes(), b"=", quote(value)?.as_bytes()].concat();
                self.line(&line);
            } else {
                let mut word = name.to_os_string();
                word.push("=");
                word.push(value);
                special.push(" ");
                special.push(quote(&word)?);
            }
        }
        self.line(b"}");
        let by_env: &[u8] = if special.is_empty() { b"" } else { b" /usr/bin/env" };
        let start =
            [br#"j_exec() { exec "$j_setsid" --"#, by_env, special.as_bytes(), br#" "$@"; }"#].concat();
        self.line(&start);
        Ok(())
    }

    /// Calls a function of the program, the last thing it does.
    pub(super) fn call<W: AsRef<OsStr>>(
        &mut self,
        function: &str,
        words: impl IntoIterator<Item = W>,
    ) -> Result<(), NulInArgument> {
        let mut line = function.as_bytes().to_vec();
        for word in words {
            line.push(b' ');
            line.extend_from_slice(quote(word.as_ref())?.as_bytes());
        }
        self.line(&line);
        Ok(())
    }

    /// The line that [`BOOTSTRAP`] reads: what `printf %b` turns back into the program.
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut line = String::with_capacity(self.0.len() * 2);
        for &byte in &self.0 {
            match byte {
                b'\\' => line.push_str(r"\\"),
                b'\n' => line.push_str(r"\n"),
                b' '..=b'~' => line.push(char::from(byte)),
                // Writing to a string does not fail.
                other => _ = write!(line, r"\0{other:03o}"),
            }
        }
        line.push('\n');
        line.into_bytes()
    }
}

/// Whether a shell passes the variable on as it was set. What shells compute themselves, or look at
/// while they start a program, is set by env(1).
fn may_be_exported(name: &[u8]) -> bool {
    const OWN: [&[u8]; 22] = [
        b"_",
        b"BASHOPTS",
        b"BASHPID",
        b"DIRSTACK",
        b"ENV",
        b"EUID",
        b"FUNCNAME",
        b"GROUPS",
        b"HISTCMD",
        b"IFS",
        b"LINENO",
        b"OLDPWD",
        b"OPTIND",
        b"POSIXLY_CORRECT",
        b"PPID",
        b"PWD",
        b"RANDOM",
        b"SECONDS",
        b"SHELLOPTS",
        b"SHLVL",
        b"SRANDOM",
        b"UID",
    ];
    let is_name = name.first().is_some_and(|b| b.is_ascii_alphabetic() || *b == b'_')
        && name.iter().all(|b| b.is_ascii_alphanumeric() || *b == b'_');
    is_name && !OWN.contains(&name) && !name.starts_with(b"BASH_") && !name.starts_with(b"j_")
}

/// `text` for grep(1), matching nothing else.
pub(super) fn pattern(text: &str) -> String {
    let mut pattern = String::with_capacity(text.len() + 8);
    for character in text.chars() {
        if r"\.*[^$".contains(character) {
            pattern.push('\\');
        }
        pattern.push(character);
    }
    pattern
}

/// One stream that comes back, taken apart as it comes.
pub(super) struct Marked {
    begin: Vec<u8>,
    end: Vec<u8>,
    part: Part,
    /// What cannot be told yet from a mark.
    open: Vec<u8>,
    /// What stood before the first mark, its last 4 KiB.
    before: Vec<u8>,
    after: Vec<u8>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Part {
    Before,
    Within,
    After,
}

impl Marked {
    pub(super) fn new(mark: &str) -> Self {
        let mark = |kind: u8| [&[MARK], mark.as_bytes(), &[kind]].concat();
        Self {
            begin: mark(b'b'),
            end: mark(b'e'),
            part: Part::Before,
            open: Vec::new(),
            before: Vec::new(),
            after: Vec::new(),
        }
    }

    pub(super) fn has_begun(&self) -> bool {
        self.part != Part::Before
    }

    pub(super) fn has_ended(&self) -> bool {
        self.part == Part::After
    }

    /// What stood before the first mark.
    pub(super) fn before(&self) -> &[u8] {
        &self.before
    }

    /// What stood behind the last one.
    pub(super) fn after(&self) -> &[u8] {
        &self.after
    }

    /// Takes what has come; what the command itself has printed of it goes to `within`.
    pub(super) fn feed(&mut self, bytes: &[u8], within: &mut dyn FnMut(&[u8])) {
        if self.open.is_empty() {
            let rest = self.split(bytes, within);
            self.open = bytes[bytes.len() - rest..].to_vec();
        } else {
            let mut all = std::mem::take(&mut self.open);
            all.extend_from_slice(bytes);
            let rest = self.split(&all, within);
            self.open = all.split_off(all.len() - rest);
        }
    }

    /// What may have been a mark, and was none, when nothing more comes.
    pub(super) fn finish(&mut self, within: &mut dyn FnMut(&[u8])) {
        let open = std::mem::take(&mut self.open);
        self.put(&open, within);
    }

    /// Returns how many bytes at the end may be the start of a mark.
    fn split(&mut self, mut bytes: &[u8], within: &mut dyn FnMut(&[u8])) -> usize {
        loop {
            let mark = match self.part {
                Part::Before => &self.begin,
                Part::Within => &self.end,
                Part::After => {
                    self.put(bytes, within);
                    return 0;
                }
            };
            let Some(at) = find(bytes, mark) else {
                self.put(bytes, within);
                return 0;
            };
            if bytes.len() - at < mark.len() {
                self.put(&bytes[..at], within);
                return bytes.len() - at;
            }
            let length = mark.len();
            self.put(&bytes[..at], within);
            bytes = &bytes[at + length..];
            self.part = if self.part == Part::Before { Part::Within } else { Part::After };
        }
    }

    fn put(&mut self, bytes: &[u8], within: &mut dyn FnMut(&[u8])) {
        match self.part {
            Part::Before => {
                self.before.extend_from_slice(bytes);
                let excess = self.before.len().saturating_sub(4 << 10);
                self.before.drain(..excess);
            }
            Part::Within if !bytes.is_empty() => within(bytes),
            Part::Within => {}
            Part::After => self.after.extend_from_slice(bytes),
        }
    }
}

/// Where `mark` stands in `bytes`, or where its first part stands at their end.
fn find(bytes: &[u8], mark: &[u8]) -> Option<usize> {
    let mut from = 0;
    while let Some(offset) = bytes[from..].iter().position(|&byte| byte == MARK) {
        let at = from + offset;
        let length = mark.len().min(bytes.len() - at);
        if bytes[at..at + length] == mark[..length] {
            return Some(at);
        }
        from = at + 1;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_is_taken_apart_wherever_it_is_cut() {
        let stream = b"motd\x1e0\n\x1eabcbdata\x1eabcb\x1eab\x1e\x1eabcex 0\n.\n\x1eabce";
        for size in 1..stream.len() {
            let mut marked = Marked::new("abc");
            let mut data = Vec::new();
            for piece in stream.chunks(size) {
                marked.feed(piece, &mut |bytes| data.extend_from_slice(bytes));
            }
            marked.finish(&mut |_| panic!("the stream has ended"));
            assert_eq!(marked.before(), b"motd\x1e0\n", "{size}");
            assert_eq!(data, b"data\x1eabcb\x1eab\x1e", "{size}");
            assert_eq!(marked.after(), b"x 0\n.\n\x1eabce", "{size}");
            assert!(marked.has_begun() && marked.has_ended());
        }
    }

    #[test]
    fn half_a_mark_at_the_end_is_output() {
        let mut marked = Marked::new("abc");
        let mut data = Vec::new();
        marked.feed(b"\x1eabcb1\x1eab", &mut |bytes| data.extend_from_slice(bytes));
        marked.finish(&mut |bytes| data.extend_from_slice(bytes));
        assert_eq!(data, b"1\x1eab");
        assert!(!marked.has_ended());
    }

    #[expect(clippy::disallowed_methods, reason = "a host would close the input")]
    fn start(login: &str, applet: &[&str], line: &str, env: &Environment) -> std::process::Child {
        let piped = std::process::Stdio::piped;
        let mut command = std::process::Command::new(login);
        command.args(applet).arg(line).env_clear().envs(env.iter());
        command.stdin(piped()).stdout(piped()).stderr(piped()).spawn().unwrap()
    }

    /// The line that a login shell is given, and the program for `sh`, by every shell of this machine.
    #[test]
    fn every_login_shell_and_every_sh_understands_what_it_is_told() {
        let env: Environment =
            [("PATH", "/usr/local/bin:/usr/bin:/bin"), ("HOME", "/")].into_iter().collect();
        let every: Vec<u8> = (1..=255).collect();
        let mut script = Script::command("abc");
        for (name, value) in [
            ("j_bytes", "5"),
            ("j_room", "/tmp"),
            ("j_cwd", "/"),
            ("j_path", "/usr/bin:/bin"),
            ("j_merge", ""),
        ] {
            script.set(name, value).unwrap();
        }
        let mut given = Environment::empty();
        given.set("EVERY", OsStr::from_bytes(&every)).set("PATH", "/usr/bin:/bin");
        script.environment(&given).unwrap();
        let words = ["sh".as_ref(), "-c".as_ref(), r#"printf '%s.%s' "$EVERY" "$1"; cat; exit 7"#.as_ref()];
        script.call("j_command", words.into_iter().chain(["x".as_ref(), OsStr::from_bytes(&every)])).unwrap();
        let input = [script.encode(), b"input".to_vec()].concat();
        let find = |names: &[&'static str]| {
            let found = names.iter().copied().filter(|name| crate::find_program(name, &env).is_some());
            found.collect::<Vec<_>>()
        };
        let logins = find(&["sh", "bash", "dash", "zsh", "fish", "ksh", "mksh", "tcsh", "csh", "busybox"]);
        let shs = find(&["dash", "bash", "ksh", "zsh"]);
        let pairs = logins.iter().map(|login| (*login, "sh")).chain(shs.iter().map(|sh| ("sh", *sh)));
        for (login, sh) in pairs {
            let line = BOOTSTRAP.replace("/bin/sh", sh);
            let applet: &[&str] = if login == "busybox" { &["sh", "-c"] } else { &["-c"] };
            let mut child = start(login, applet, &line, &env);
            // Open until the end: without a client the command would be ended.
            let mut channel = child.stdin.take().unwrap();
            std::io::Write::write_all(&mut channel, &input).unwrap();
            let output = child.wait_with_output().unwrap();
            drop(channel);
            let case = format!("{login} {sh}: {output:?}");
            assert!(output.status.success(), "{case}");
            let (mut out, mut err) = (Marked::new("abc"), Marked::new("abc"));
            let mut printed = Vec::new();
            out.feed(&output.stdout, &mut |bytes| printed.extend_from_slice(bytes));
            err.feed(&output.stderr, &mut |bytes| panic!("{bytes:?} {case}"));
            assert_eq!(err.after(), b"x 7\n.\n", "{case}");
            let expected = [&every[..], b".", &every, b"input"].concat();
            assert!(printed == expected, "{case}");
        }
    }

    #[test]
    fn the_line_is_plain_ascii_and_has_no_comment() {
        let mut script = Script::command("m");
        script.set("j_x", OsStr::from_bytes(b"a\n\\\xff")).unwrap();
        let line = script.encode();
        assert!(line.iter().all(|b| (b' '..=b'~').contains(b) || *b == b'\n'));
        assert_eq!(line.iter().filter(|b| **b == b'\n').count(), 1);
        assert!(line.ends_with(b"j_x='a\\n\\\\\\0377'\\n\n"), "{:?}", String::from_utf8_lossy(&line));
    }
}
