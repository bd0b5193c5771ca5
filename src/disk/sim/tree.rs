//! Folders, names and the files behind them.

use super::inode::Inode;
use super::loss::Loss;
use super::rng::Rng;
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{OsStr, OsString};
use std::io;
use std::path::{Component, Path};

pub(super) const ROOT: u64 = 0;

type Entries = BTreeMap<OsString, u64>;

#[derive(Clone, Debug)]
pub(super) struct Tree {
    nodes: BTreeMap<u64, Node>,
    next: u64,
}

#[derive(Clone, Debug)]
enum Node {
    File(Inode),
    Folder(Folder),
}

#[derive(Clone, Debug, Default)]
struct Folder {
    cache: Entries,
    durable: Entries,
    unsynced: Vec<Move>,
    /// Holders can still list it, but nothing new can be created in it.
    removed: bool,
}

/// A path and the folder it starts in.
#[derive(Clone, Copy, Debug)]
pub(super) struct Way<'a> {
    pub(super) from: u64,
    pub(super) path: &'a Path,
}

#[derive(Clone, Debug)]
enum Move {
    Link(OsString, u64),
    Rename(OsString, OsString),
    Unlink(OsString),
}

impl Move {
    /// Applies the move; returns the node that lost its name.
    fn apply(&self, entries: &mut Entries) -> Option<u64> {
        match self {
            Self::Link(name, node) => entries.insert(name.clone(), *node),
            Self::Unlink(name) => entries.remove(name),
            Self::Rename(from, to) => {
                let node = entries.remove(from)?;
                entries.insert(to.clone(), node)
            }
        }
    }
}

impl Folder {
    fn crash(&self, loss: Loss, stream: u64, is_folder: impl Fn(u64) -> bool) -> Self {
        let mut entries = self.durable.clone();
        let kept = match loss {
            Loss::All => 0,
            Loss::Seeded(seed) => Rng::new(seed, stream).below(self.unsynced.len() + 1),
            Loss::OutOfOrder(seed) => {
                self.keep_some(&mut entries, Rng::new(seed, stream), is_folder);
                0
            }
        };
        for step in &self.unsynced[..kept] {
            step.apply(&mut entries);
        }
        Self { cache: entries.clone(), durable: entries, ..Self::default() }
    }

    /// Keeps any moves except those depending on a lost one: of a missing name, or to the name of a folder still there.
    fn keep_some(&self, entries: &mut Entries, mut rng: Rng, is_folder: impl Fn(u64) -> bool) {
        let mut seen = self.durable.clone();
        for step in &self.unsynced {
            let possible = match step {
                Move::Link(name, _) => !entries.contains_key(name),
                Move::Unlink(name) => entries.get(name) == seen.get(name),
                Move::Rename(from, to) => {
                    let in_the_way = entries.get(to).is_some_and(|node| is_folder(*node));
                    entries.get(from) == seen.get(from) && !in_the_way
                }
            };
            if rng.next() & 1 == 1 && possible {
                step.apply(entries);
            }
            step.apply(&mut seen);
        }
    }

    /// Returns every node that this folder names, would name after some crash, or will name once synced.
    fn names(&self) -> impl Iterator<Item = u64> {
        let moved = self.unsynced.iter().filter_map(|step| match step {
            Move::Link(_, node) => Some(*node),
            _ => None,
        });
        self.cache.values().chain(self.durable.values()).copied().chain(moved)
    }
}

impl Default for Tree {
    fn default() -> Self {
        let nodes = BTreeMap::from([(ROOT, Node::Folder(Folder::default()))]);
        Self { nodes, next: ROOT + 1 }
    }
}

impl Tree {
    pub(super) fn file(&self, node: u64) -> io::Result<&Inode> {
        match self.nodes.get(&node) {
            Some(Node::File(file)) => Ok(file),
            Some(Node::Folder(_)) => Err(io::ErrorKind::IsADirectory.into()),
            None => Err(io::ErrorKind::NotFound.into()),
        }
    }

    pub(super) fn file_mut(&mut self, node: u64) -> io::Result<&mut Inode> {
        match self.nodes.get_mut(&node) {
            Some(Node::File(file)) => Ok(file),
            Some(Node::Folder(_)) => Err(io::ErrorKind::IsADirectory.into()),
            None => Err(io::ErrorKind::NotFound.into()),
        }
    }

    fn folder(&self, node: u64) -> io::Result<&Folder> {
        match self.nodes.get(&node) {
            Some(Node::Folder(folder)) => Ok(folder),
            Some(Node::File(_)) => Err(io::ErrorKind::NotADirectory.into()),
            None => Err(io::ErrorKind::NotFound.into()),
        }
    }

    fn folder_mut(&mut self, node: u64) -> io::Result<&mut Folder> {
        match self.nodes.get_mut(&node) {
            Some(Node::Folder(folder)) => Ok(folder),
            Some(Node::File(_)) => Err(io::ErrorKind::NotADirectory.into()),
            None => Err(io::ErrorKind::NotFound.into()),
        }
    }

    fn walk<'a>(&self, from: u64, names: impl IntoIterator<Item = &'a OsStr>) -> io::Result<u64> {
        names.into_iter().try_fold(from, |at, name| {
            self.folder(at)?.cache.get(name).copied().ok_or(io::ErrorKind::NotFound.into())
        })
    }

    pub(super) fn find(&self, way: Way<'_>) -> io::Result<u64> {
        self.walk(way.from, names_of(way.path))
    }

    /// Returns the parent folder and name of what is at the end of the way, which need not exist.
    fn parent_of(&self, way: Way<'_>) -> io::Result<(u64, OsString)> {
        let mut names = names_of(way.path);
        let name = names.pop().ok_or(io::ErrorKind::InvalidInput)?;
        let folder = self.walk(way.from, names)?;
        self.folder(folder)?;
        Ok((folder, name.to_owned()))
    }

    fn step(&mut self, folder: u64, step: Move) -> io::Result<()> {
        if let Move::Link(_, node) = step
            && let Ok(file) = self.file_mut(node)
        {
            file.links += 1;
        }
        let folder = self.folder_mut(folder)?;
        let nameless = step.apply(&mut folder.cache);
        folder.unsynced.push(step);
        if let Some(node) = nameless
            && let Ok(file) = self.file_mut(node)
        {
            file.links -= 1;
        }
        Ok(())
    }

    fn create(&mut self, way: Way<'_>, node: Node) -> io::Result<u64> {
        let (folder, name) = self.parent_of(way)?;
        if self.folder(folder)?.removed {
            return Err(io::ErrorKind::NotFound.into());
        }
        if self.folder(folder)?.cache.contains_key(&name) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        let number = self.next;
        self.next += 1;
        self.nodes.insert(number, node);
        self.step(folder, Move::Link(name, number))?;
        Ok(number)
    }

    pub(super) fn create_file(&mut self, way: Way<'_>) -> io::Result<u64> {
        self.create(way, Node::File(Inode::default()))
    }

    pub(super) fn create_folder(&mut self, way: Way<'_>) -> io::Result<u64> {
        self.create(way, Node::Folder(Folder::default()))
    }

    pub(super) fn is_folder(&self, way: Way<'_>) -> io::Result<bool> {
        self.find(way).map(|node| self.folder(node).is_ok())
    }

    pub(super) fn list(&self, dir: Way<'_>) -> io::Result<Vec<OsString>> {
        Ok(self.folder(self.find(dir)?)?.cache.keys().cloned().collect())
    }

    pub(super) fn rename(&mut self, from: Way<'_>, to: Way<'_>) -> io::Result<()> {
        let source = self.find(from)?;
        let ((folder, from), (other, to_name)) = (self.parent_of(from)?, self.parent_of(to)?);
        if folder != other {
            return Err(io::Error::new(
                io::ErrorKind::Unsupported,
                "the simulated disk renames within one folder only",
            ));
        }
        if let Ok(target) = self.find(to) {
            if target == source {
                return Ok(());
            }
            self.file(source).and_then(|_| self.file(target))?;
        }
        self.step(folder, Move::Rename(from, to_name))
    }

    pub(super) fn remove_file(&mut self, way: Way<'_>) -> io::Result<()> {
        self.file(self.find(way)?)?;
        let (folder, name) = self.parent_of(way)?;
        self.step(folder, Move::Unlink(name))
    }

    pub(super) fn remove_folder(&mut self, way: Way<'_>) -> io::Result<()> {
        if !self.list(way)?.is_empty() {
            return Err(io::ErrorKind::DirectoryNotEmpty.into());
        }
        let (folder, name) = self.parent_of(way)?;
        let removed = self.find(way)?;
        self.folder_mut(removed)?.removed = true;
        self.step(folder, Move::Unlink(name))
    }

    pub(super) fn sync_folder(&mut self, dir: Way<'_>) -> io::Result<()> {
        let node = self.find(dir)?;
        let folder = self.folder_mut(node)?;
        folder.durable = folder.cache.clone();
        let steps = std::mem::take(&mut folder.unsynced);
        if steps.iter().any(|step| !matches!(step, Move::Link(..))) {
            self.sweep();
        }
        Ok(())
    }

    /// Frees what no name or handle can reach any more, even after a crash.
    fn sweep(&mut self) {
        let mut named = BTreeSet::from([ROOT]);
        for node in self.nodes.values() {
            if let Node::Folder(folder) = node {
                named.extend(folder.names());
            }
        }
        self.nodes.retain(|number, node| {
            named.contains(number) || matches!(node, Node::File(file) if file.open > 0)
        });
    }

    /// Returns the bytes that files take on the disk.
    pub(super) fn space(&self) -> u64 {
        let file = |node: &Node| match node {
            Node::File(file) if file.links > 0 || file.open > 0 => file.cache.space(),
            _ => 0,
        };
        self.nodes.values().map(file).sum()
    }

    /// Returns the tree after a process crash.
    pub(super) fn kill(&self) -> Self {
        let alive = |(number, node): (&u64, &Node)| {
            let node = match node {
                Node::File(file) => Node::File(file.kill()),
                Node::Folder(folder) => Node::Folder(folder.clone()),
            };
            (*number, node)
        };
        Self { nodes: self.nodes.iter().map(alive).collect(), next: self.next }
    }

    /// Returns the tree after a power cut: what the surviving names lead to.
    pub(super) fn crash(&self, loss: Loss) -> Self {
        let mut nodes = BTreeMap::new();
        let mut todo = vec![ROOT];
        while let Some(number) = todo.pop() {
            let node = match self.nodes.get(&number) {
                Some(Node::File(file)) => Node::File(file.crash(loss, number)),
                Some(Node::Folder(folder)) => {
                    let is_folder = |node| self.folder(node).is_ok();
                    let folder = folder.crash(loss, number, is_folder);
                    todo.extend(folder.cache.values());
                    Node::Folder(folder)
                }
                None => continue,
            };
            nodes.insert(number, node);
        }
        Self { nodes, next: self.next }
    }
}

/// Returns the names on the way from the root. Relative paths start there too: the disk has no working folder.
fn names_of(path: &Path) -> Vec<&OsStr> {
    let mut names = Vec::new();
    for part in path.components() {
        match part {
            Component::Normal(name) => names.push(name),
            Component::ParentDir => {
                names.pop();
            }
            Component::Prefix(_) | Component::RootDir | Component::CurDir => {}
        }
    }
    names
}
