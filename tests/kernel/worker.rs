//! The child process: opens a store, calls it from several threads and reports, until it is killed.

use crate::dice::Dice;
use crate::freeze::Threads;
use crate::job::{Job, Mix};
use crate::notebook::Notebook;
use crate::report::{now_us, pause};
use crate::subject::{Firstseen, Subject, name, open, options};
use crate::wire::{Answer, Event, Family, IDS_PER_LINE_MAX, Level, Question, Refusal, Verb};
use firstseen::Reserved;
use std::fs::File;
use std::io::Write;
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// The test that is the body of a child.
pub(crate) const CHILD: &str = "worker::the_child_asks_until_it_is_killed";

/// Prefix of the note about a panic.
pub(crate) const PANICKED: &str = "panicked";

/// State of a child all of whose threads have been answered.
pub(crate) const UNDER_WAY: &str = "under way";

/// Not a test by itself: the body of the child process.
#[test]
fn the_child_asks_until_it_is_killed() {
    if let Some(job) = Job::of_this_process() {
        // The test runner has printed the name of this test without a line feed.
        Pipe::new().write("\n");
        work(&job);
    }
}

/// Bypasses the buffer of the standard library: one line, one system call.
struct Pipe {
    file: File,
    line: String,
}

impl Pipe {
    fn new() -> Self {
        let out = std::io::stdout().as_fd().try_clone_to_owned().expect("a pipe to the parent");
        Self { file: File::from(out), line: String::new() }
    }

    fn write(&mut self, text: &str) {
        self.file.write_all(text.as_bytes()).expect("the parent listens");
    }

    fn tell(&mut self, event: &Event) {
        let mut line = std::mem::take(&mut self.line);
        event.write(&mut line);
        assert!(line.len() <= 4096, "a pipe takes a line at once");
        self.write(&line);
        self.line = line;
    }

    fn note(&mut self, what: impl std::fmt::Display) {
        self.tell(&Event::Note(what.to_string().chars().take(3000).collect()));
    }
}

/// Reports every panic to the parent, even one in a background thread that the store survives. sled's panics are
/// excepted, as the store has to contain them.
fn tell_of_panics() {
    let usual = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        let of_sled = |at: &std::panic::Location<'_>| at.file().contains("/sled-0.34");
        if !panic.location().is_some_and(of_sled) {
            Pipe::new().note(format!("{PANICKED}: {}", panic.to_string().replace('\n', " ")));
        }
        usual(panic);
    }));
}

fn work(job: &Job) {
    tell_of_panics();
    let mut pipe = Pipe::new();
    let tuning = job.mix.tuning();
    if job.repair {
        pipe.note("repairing");
        match Firstseen::builder(&job.dir, tuning).repair() {
            Ok(_) => pipe.note("repaired"),
            Err(e) => return pipe.note(format!("refused {}", Refusal::from(e))),
        }
    }
    pipe.note("opening");
    let subject = match open(job.kind, &job.dir, tuning) {
        Ok(subject) => subject,
        Err(refusal) => return pipe.note(format!("refused {refusal}")),
    };
    pipe.note("open");
    let (stop, frontier) = (AtomicBool::new(false), AtomicU64::new(job.base));
    let (under_way, threads) = (AtomicU64::new(0), Threads::default());
    std::thread::scope(|scope| {
        for thread in 0..job.threads {
            let asker = Asker {
                subject: &*subject,
                job,
                thread,
                dice: Dice::new(job.seed * 1_000 + thread),
                pipe: Pipe::new(),
                notebook: job.notebook(thread).map(|path| Notebook::new(&path)),
                used: 0,
                frontier: &frontier,
                answers_left: if asks_at_disk(job.mix, thread) { 3 } else { 100 },
                under_way: &under_way,
            };
            scope.spawn(|| threads.with(|| asker.run(&stop)));
        }
        if job.holds_up() {
            scope.spawn(|| threads.hold_up(Dice::new(job.seed), &stop));
        }
        // The parent sends a line to have the store closed.
        std::io::stdin().read_line(&mut String::new()).ok();
        stop.store(true, Ordering::Release);
    });
    match subject.close() {
        Ok(()) => pipe.note("closed"),
        Err(refusal) => pipe.note(format!("closed with {refusal}")),
    }
}

struct Asker<'a> {
    subject: &'a dyn Subject,
    job: &'a Job,
    thread: u64,
    dice: Dice,
    pipe: Pipe,
    notebook: Option<Notebook>,
    /// Ids used so far by [`Mix::Full`], which takes each only once.
    used: u64,
    /// Below it is what the threads of a crowd have been at.
    frontier: &'a AtomicU64,
    /// Answers until this thread counts as under way.
    answers_left: u64,
    under_way: &'a AtomicU64,
}

/// Every fourth thread of [`Mix::Crowd`] asks at `Disk`, the others at `Process`.
fn asks_at_disk(mix: Mix, thread: u64) -> bool {
    mix != Mix::Rush && thread % 4 == 3
}

impl Asker<'_> {
    fn run(mut self, stop: &AtomicBool) {
        while !stop.load(Ordering::Acquire) {
            let (verb, family, level, ids) = self.choose();
            let question = Question { verb, family, level, ids };
            let asked = match question.verb {
                Verb::Reserve => self.reserve(question),
                _ => self.ask(question).map(drop),
            };
            match asked {
                Ok(()) => {}
                Err(Refusal::Full | Refusal::Retry) => pause(5_000),
                Err(_) => return,
            }
        }
    }

    fn choose(&mut self) -> (Verb, Family, Level, Vec<u64>) {
        let level = self.job.mix.tuning().level;
        let dice = &mut self.dice;
        let roll = dice.below(100);
        let few = 1 + if dice.one_in(3) { dice.below(IDS_PER_LINE_MAX) } else { 0 };
        match self.job.mix {
            Mix::Flush if roll < 15 => self.own(level),
            Mix::Flush if roll < 25 => {
                (Verb::Reserve, Family::Ever, level, self.evers(few.min(20)))
            }
            Mix::Expiry if roll < 85 => (Verb::Claim, Family::Short, level, self.shorts(few)),
            Mix::Compaction if roll < 80 => {
                (Verb::Claim, Family::Short, level, self.shorts(IDS_PER_LINE_MAX))
            }
            Mix::Compaction if roll < 88 => self.own(level),
            Mix::Power if roll < 10 => (Verb::Sync, Family::Ever, level, Vec::new()),
            Mix::Power if roll < 45 => (Verb::Claim, Family::Ever, Level::Process, self.evers(few)),
            Mix::Power if roll < 55 => self.own(level),
            Mix::Power if roll < 65 => (Verb::Claim, Family::Short, level, self.shorts(few)),
            Mix::Power if roll < 72 => {
                let level = if roll < 69 { level } else { Level::Process };
                (Verb::Reserve, Family::Ever, level, self.evers(few.min(20)))
            }
            Mix::Full if roll < 80 || self.used == 0 => {
                let from = self.job.base + self.thread * 1_000_000 + self.used;
                self.used += IDS_PER_LINE_MAX;
                (Verb::Claim, Family::Ever, level, (from..from + IDS_PER_LINE_MAX).collect())
            }
            Mix::Full => {
                let back = 1 + dice.below(self.used);
                let id = self.job.base + self.thread * 1_000_000 + self.used - back;
                (Verb::Contains, Family::Ever, level, vec![id])
            }
            Mix::Rush | Mix::Crowd | Mix::Rolls => self.crowd(roll),
            Mix::Plain if roll < 3 => (Verb::Sync, Family::Ever, level, Vec::new()),
            _ if roll >= 97 => (Verb::Contains, Family::Ever, level, self.evers(1)),
            _ => (Verb::Claim, Family::Ever, level, self.evers(few)),
        }
    }

    /// Draws from the current range of ids, and half of the time from up to one range further back.
    fn evers(&mut self, count: u64) -> Vec<u64> {
        let (job, dice) = (self.job, &mut self.dice);
        let span = job.mix.ids();
        let one = |_| {
            let back = if dice.one_in(2) { dice.below(span.min(20_000)) } else { 0 };
            (job.base + dice.below(span)).saturating_sub(back)
        };
        (0..count).map(one).collect()
    }

    fn crowd(&mut self, roll: u64) -> (Verb, Family, Level, Vec<u64>) {
        let level =
            if asks_at_disk(self.job.mix, self.thread) { Level::Disk } else { Level::Process };
        let few = 2 + self.dice.below(18);
        match roll {
            0..50 => (Verb::Claim, Family::Ever, level, self.fresh(1)),
            50..70 => (Verb::Claim, Family::Beside, level, self.fresh(1)),
            70..80 => (Verb::Claim, Family::Ever, level, self.fresh(few)),
            80..85 => (Verb::Claim, Family::Beside, level, self.fresh(few)),
            85..88 => (Verb::Claim, Family::Short, level, self.fresh(1)),
            88..91 => (Verb::Reserve, Family::Ever, level, self.fresh(few.min(5))),
            91..96 => self.own(Level::Process),
            _ => (Verb::Contains, Family::Ever, level, self.fresh(1)),
        }
    }

    /// Ids around the frontier, where the other threads are, too; some that were asked for long ago.
    fn fresh(&mut self, count: u64) -> Vec<u64> {
        const WINDOW: u64 = 32;
        let mut from = self.frontier.load(Ordering::Relaxed);
        if self.dice.one_in(4) {
            self.frontier.fetch_add(2 * count, Ordering::Relaxed);
        }
        if self.dice.one_in(8) {
            from = self.dice.below(from);
        }
        (0..count).map(|_| from + self.dice.below(WINDOW.max(2 * count))).collect()
    }

    fn shorts(&mut self, count: u64) -> Vec<u64> {
        (0..count).map(|_| self.dice.below(30_000)).collect()
    }

    /// Ids of this thread alone, the same in every life of the store.
    fn own(&mut self, level: Level) -> (Verb, Family, Level, Vec<u64>) {
        let id = self.thread * 1_000 + self.dice.below(200);
        let verb = match self.dice.below(5) {
            0 => Verb::Contains,
            1 | 2 => Verb::Forget,
            _ => Verb::Claim,
        };
        (verb, Family::Own, level, vec![id])
    }

    fn tell_question(&mut self, question: &Question) {
        let (thread, at_us) = (self.thread, now_us());
        self.tell(&Event::Asked { thread, at_us, question: question.clone() });
    }

    fn tell_answers(&mut self, answers: &Result<Vec<Answer>, Refusal>) {
        let (thread, at_us) = (self.thread, now_us());
        self.tell(&Event::Answered { thread, at_us, answers: answers.clone() });
        self.count_answer();
    }

    fn tell(&mut self, event: &Event) {
        match &mut self.notebook {
            Some(notebook) => notebook.note(event),
            None => self.pipe.tell(event),
        }
    }

    /// Tells the parent, which hears nothing else of threads with notebooks, when all of them are under way.
    fn count_answer(&mut self) {
        if self.notebook.is_none() || self.answers_left == 0 {
            return;
        }
        self.answers_left -= 1;
        let is_last = || self.under_way.fetch_add(1, Ordering::AcqRel) + 1 == self.job.threads;
        if self.answers_left == 0 && is_last() {
            self.pipe.note(UNDER_WAY);
        }
    }

    fn ask(&mut self, question: Question) -> Result<Vec<Answer>, Refusal> {
        self.tell_question(&question);
        let Question { verb, family, level, ids } = &question;
        let yes_or_no = |yes: bool| vec![if yes { Answer::Yes } else { Answer::No }];
        let answers = match verb {
            Verb::Claim => self.subject.claim(*family, ids, *level),
            Verb::Contains => self.subject.contains(*family, ids[0]).map(yes_or_no),
            Verb::Forget => {
                let space = self.firstseen().space(*family);
                space.forget(name(*family, ids[0])).map(yes_or_no).map_err(Refusal::from)
            }
            Verb::Sync => self.subject.sync().map(|()| Vec::new()),
            Verb::Reserve | Verb::Confirm => unreachable!("two questions: see `reserve`"),
        };
        self.tell_answers(&answers);
        answers
    }

    fn firstseen(&self) -> &Firstseen {
        self.subject.firstseen().expect("only firstseen is asked for what only it can do")
    }

    /// Reserves ids, then confirms or releases them.
    fn reserve(&mut self, question: Question) -> Result<(), Refusal> {
        let Question { family, level, ids, .. } = &question;
        let names: Vec<String> = ids.iter().map(|id| name(*family, *id)).collect();
        self.tell_question(&question);
        let space = self.firstseen().space(*family);
        let held = space.reserve_batch_with(&names, options(*level)).map_err(Refusal::from);
        let answers = match &held {
            Ok(held) => Ok(held.answers().iter().map(|answer| match answer {
                Reserved::FirstSeen => Answer::First,
                Reserved::Duplicate { first_seen } => Answer::Duplicate(first_seen.as_millis()),
                Reserved::SameBatch | Reserved::InProgress => Answer::InProgress,
            })),
            Err(refusal) => Err(refusal.clone()),
        };
        let answers = answers.map(Iterator::collect::<Vec<_>>);
        self.tell_answers(&answers);
        let (mut held, answers) = (held?, answers?);
        if self.dice.one_in(4) {
            return Ok(());
        }
        let mine = ids.iter().zip(&answers).filter(|(_, answer)| **answer == Answer::First);
        let ids: Vec<u64> = mine.map(|(id, _)| *id).collect();
        let firsts = vec![Answer::First; ids.len()];
        self.tell_question(&Question { verb: Verb::Confirm, ids, ..question });
        let confirmed = held.confirm().map(|()| firsts).map_err(Refusal::from);
        self.tell_answers(&confirmed);
        confirmed.map(drop)
    }
}
