//! Runs a program in a child process, and kills it.

use serde_json::Value;
use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::time::Duration;

#[path = "../../examples/sample/generate.rs"]
#[allow(clippy::duplicate_mod, reason = "each program has one, too")]
pub(crate) mod generate;
#[path = "../../examples/sample/outside.rs"]
#[allow(clippy::duplicate_mod, reason = "each program has one, too")]
pub(crate) mod outside;
#[path = "../../examples/sample/pipeline.rs"]
#[allow(clippy::duplicate_mod, reason = "each program has one, too")]
mod pipeline;

pub(crate) type Answer<T = ()> = outside::Answer<T>;

const JOB: &str = "FIRSTSEEN_TEST_PIPELINE";

/// A program under test.
pub(crate) struct Program {
    /// The name of the test, with its modules.
    pub(crate) test: &'static str,
    pub(crate) kind: generate::Kind,
    /// Runs the program in a folder on an input, and kills it at a step.
    pub(crate) run: fn(&Path, &Path, u64) -> Answer,
    /// What its child process is told in the environment.
    pub(crate) env: Option<(&'static str, String)>,
}

/// What a run, and the kills before it, have left in a folder.
pub(crate) struct Left {
    pub(crate) folder: PathBuf,
    pub(crate) input: PathBuf,
    /// The step at which it was killed, where kills are aimed at steps.
    pub(crate) killed: Option<String>,
    /// Whether kills are aimed at steps.
    pub(crate) is_aimed: bool,
}

impl Left {
    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    pub(crate) fn effects(&self) -> Vec<String> {
        let text = std::fs::read_to_string(self.file("effects")).unwrap_or_default();
        text.lines().filter(|line| !line.is_empty()).map(str::to_owned).collect()
    }

    /// The events of the input, each once, in the order in which they first came.
    pub(crate) fn events(&self) -> Vec<Value> {
        let (mut seen, text) = (HashSet::new(), std::fs::read_to_string(&self.input).unwrap());
        let events = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        events.filter(|event| seen.insert(event["id"].as_str().unwrap().to_owned())).collect()
    }
}

impl Program {
    /// The body of a child: runs the program, if this process is one.
    pub(crate) fn in_child(&self) {
        let Ok(job) = std::env::var(JOB) else { return };
        let mut words = job.split('\n');
        let step = words.next().and_then(|step| step.parse().ok()).expect("a step");
        let [folder, input] = [(); 2].map(|()| words.next().expect("a path"));
        let done = (self.run)(Path::new(folder), Path::new(input), step);
        if let Err(why) = &done {
            std::fs::write(Path::new(folder).join("broken"), why.to_string()).ok();
        }
        std::process::exit(i32::from(done.is_err()));
    }

    fn child(&self, left: &Left, step: u64) -> Command {
        let mut child = Command::new(std::env::current_exe().expect("this binary"));
        child.args(["--exact", self.test]).stdout(Stdio::null()).stderr(Stdio::null());
        child.env(JOB, format!("{step}\n{}\n{}", left.folder.display(), left.input.display()));
        child.envs(self.env.clone());
        child
    }

    /// A folder with an input of so many deliveries.
    fn folder(&self, dir: &Path, deliveries: u64) -> Left {
        let left = Left {
            folder: dir.join("run"),
            input: dir.join("input"),
            killed: None,
            is_aimed: false,
        };
        std::fs::create_dir(&left.folder).unwrap();
        generate::file(&left.input, self.kind, deliveries).unwrap();
        left
    }

    /// Kills it at each of its steps, starts it again until it ends by itself, and checks what is left. Returns the names
    /// of the steps.
    pub(crate) fn at_every_step(
        &self,
        deliveries: u64,
        mut check: impl FnMut(&Left),
    ) -> Vec<String> {
        let mut steps = Vec::new();
        for step in 1.. {
            let dir = tempfile::tempdir().unwrap();
            let mut left = self.folder(dir.path(), deliveries);
            let mut starts = 1;
            while !self.ended(&left, step, pipeline::STEP_MAX).success() {
                starts += 1;
                assert!(starts < 4, "step {step}: it does not end by itself: {}", broken(&left));
            }
            left.is_aimed = true;
            left.killed = std::fs::read_to_string(left.file("killed")).ok();
            check(&left);
            match left.killed {
                Some(name) => steps.push(name),
                None => return steps,
            }
        }
        unreachable!("a program ends")
    }

    /// Kills it at random as often as asked, and calls `after_kill` each time; then lets it end by itself. Returns how often
    /// it was killed, and what is left.
    pub(crate) fn killed_at_random(
        &self,
        dir: &Path,
        deliveries: u64,
        after_kill: impl FnMut(&Left),
    ) -> (u64, Left) {
        self.killed_at_random_and_dying(dir, deliveries, 0, after_kill)
    }

    /// The same of a program that also dies by itself, at most so often in a run.
    pub(crate) fn killed_at_random_and_dying(
        &self,
        dir: &Path,
        deliveries: u64,
        deaths_max: u64,
        mut after_kill: impl FnMut(&Left),
    ) -> (u64, Left) {
        let calm = dir.join("calm");
        std::fs::create_dir(&calm).unwrap();
        let calm = self.folder(&calm, deliveries);
        self.to_its_end(&calm, deaths_max);
        let steps = std::fs::metadata(calm.file("steps")).unwrap().len();
        let left = self.folder(dir, deliveries);
        let (kills_asked, seed) = (kills(), env("FIRSTSEEN_CRASH_SEED", 1));
        let mut kills = pipeline::Kills::new(&left.folder, kills_asked, steps, seed);
        let mut deaths = 0;
        while kills.are_left() {
            let child = self.child(&left, u64::MAX).spawn().unwrap();
            match kills.kill(child) {
                Ok(true) => after_kill(&left),
                Ok(false) => break,
                Err(_) if deaths < deaths_max && !kills.has_hung && broken(&left).is_empty() => {
                    deaths += 1;
                    kills.again();
                }
                Err(why) => panic!("{why}: {}", broken(&left)),
            }
        }
        self.to_its_end(&left, deaths_max);
        // Otherwise it proves little. A busy machine kills late, so some come when it has ended.
        let killed = kills.killed;
        assert!(killed * 4 >= kills_asked * 3, "killed only {killed} times");
        (killed, left)
    }

    /// Starts it, and waits until it ends or dies. One that takes longer for a step than this hangs.
    fn ended(&self, left: &Left, step: u64, step_max: Duration) -> ExitStatus {
        let child = self.child(left, step).spawn().unwrap();
        let ended = pipeline::Watch::new(&left.folder, step_max).wait(child);
        ended.unwrap_or_else(|why| panic!("{}, to be killed at step {step}: {why}", self.test))
    }

    /// Runs it without a kill. It may die by itself so often.
    fn to_its_end(&self, left: &Left, deaths_max: u64) {
        let mut deaths = 0;
        loop {
            let ended = self.ended(left, u64::MAX, pipeline::STEP_MAX);
            if ended.success() {
                return;
            }
            deaths += 1;
            assert!(deaths <= deaths_max, "{ended}: {}", broken(left));
        }
    }
}

fn broken(left: &Left) -> String {
    std::fs::read_to_string(left.file("broken")).unwrap_or_default()
}

/// The input of a run, of so many deliveries for each kill. At least for four: one that is short may be over before a busy
/// machine has killed it.
pub(crate) fn deliveries(each: u64) -> u64 {
    each * kills().max(4)
}

/// How often to kill at random.
pub(crate) fn kills() -> u64 {
    env("FIRSTSEEN_PIPELINE_KILLS", 5)
}

fn env(name: &str, default: u64) -> u64 {
    match std::env::var(name) {
        Ok(text) => text.parse().unwrap_or_else(|_| panic!("{name}={text} is not a number")),
        Err(_) => default,
    }
}

/// Prints a row of the proof table; a script adds them up.
pub(crate) fn proof(program: &str, kills: u64, details: &str) {
    println!("proof | {program}, kill -9 | {kills} | kills | {details}");
}

/// Otherwise a program that waits for ever would have the whole run wait for it.
#[test]
fn a_program_that_hangs_is_killed_and_named() {
    let program = Program {
        test: "harness::a_program_that_hangs_is_killed_and_named",
        kind: generate::Kind::Views,
        run: |folder, _, step| {
            outside::Outside::new(folder, step).step("the last one");
            loop {
                std::thread::park();
            }
        },
        env: None,
    };
    program.in_child();
    let dir = tempfile::tempdir().unwrap();
    let left = program.folder(dir.path(), 1);
    let ended = || program.ended(&left, u64::MAX, Duration::from_secs(2));
    let why = std::panic::catch_unwind(std::panic::AssertUnwindSafe(ended)).unwrap_err();
    let why = why.downcast_ref::<String>().unwrap();
    assert!(
        why.contains(program.test) && why.contains("it hangs") && why.contains("after 1"),
        "{why}"
    );
}
