//! Replay scopes: begun with one record, ended with one. docs/rfcs/0008-replay.md tells why.

use crate::engine::catalog::namespaces::{NsInfo, Scope};
use crate::engine::catalog::scopes::{ScopeEnd, ScopeMark, check_name, marks, read_mark};
use crate::engine::core::{Bells, Core, Durability};
use crate::engine::write::backpressure::WaitBudget;
use crate::engine::write::commit::{Committed, commit_rows};
use crate::engine::write::decide::known;
use crate::engine::write::intent::{Prepared, PreparedState};
use crate::engine::write::rows::{known_row, list_rows};
use crate::engine::write::write_set::{Expect, RowChange, RowWrite};
use crate::error::{Error, Result};
use crate::id::{Family, Key, NsId};
use crate::sync::Arc;
use crate::time::Ttl;

/// Reads how scopes ended, at opening, before there is any handle. `again`: what they left behind may have come back, as
/// when everything was built again from the log.
pub(in crate::engine) fn load_scopes(core: &Core, again: bool) -> Result<()> {
    if core.namespaces.scopes().is_empty() {
        return Ok(());
    }
    let mut found = Vec::new();
    list_rows(core, marks().family(), |key, row| {
        // Without its mark, what was dropped would answer again (I11).
        found.push(read_mark(&core.dir, key.id, &row?.value)?);
        Ok(())
    })?;
    found.sort_by_key(|(_, mark)| mark.order);
    for (scope, mark) in found {
        let is_swept = mark.is_swept && !again;
        core.namespaces.apply_mark(scope, ScopeMark { is_swept, ..mark });
    }
    Ok(())
}

/// Returns the scope of this name, which begins unless there is one that was not dropped.
pub(in crate::engine) fn open_scope(core: &Core, name: &str) -> Result<Scope> {
    core.health.check()?;
    check_name("replay scope", name)?;
    let _change = core.namespaces.lock_scopes();
    match core.namespaces.find_scope(name) {
        Some(scope) => Ok(scope),
        None => core.namespaces.begin_scope(&core.log, name, core.time.now()),
    }
}

/// Returns the namespace of this name inside a scope.
pub(in crate::engine) fn scope_namespace(
    core: &Core,
    scope: NsId,
    name: &str,
    settings: Option<(Ttl, bool)>,
) -> Result<Arc<NsInfo>> {
    core.health.check()?;
    check_name("namespace", name)?;
    settings.iter().try_for_each(|(ttl, _)| ttl.check())?;
    let _change = core.namespaces.lock_scopes();
    let scope = find(core, scope)?;
    match scope.end() {
        None => core.namespaces.open_inside(&core.log, scope.number, name, settings),
        Some(end) => Err(has_ended(&scope, end)),
    }
}

/// Ends a scope with one row, which is on disk when this returns. Returns whether this call has ended it: it may have
/// ended so before.
pub(in crate::engine) fn end_scope(core: &Core, scope: NsId, end: ScopeEnd) -> Result<bool> {
    core.health.check()?;
    let _wakes = core.namespaces.ending.wakes();
    let is_new = end_locked(core, scope, end)?;
    if is_new {
        // Whoever waits for a record looks again, which may be code of the user: no lock is held (I9). The background takes
        // the space back.
        core.watches.tell_all();
        core.signals.maintain.raise();
    }
    Ok(is_new)
}

/// Ends a scope while no other changes.
fn end_locked(core: &Core, scope: NsId, end: ScopeEnd) -> Result<bool> {
    let _change = core.namespaces.lock_scopes();
    let scope = find(core, scope)?;
    match scope.end() {
        Some(known) if known == end => {
            core.log.sync_for_caller(core.log.end())?;
            return Ok(false);
        }
        Some(other) => return Err(has_ended(&scope, other)),
        None => {}
    }
    let mark = core.namespaces.mark_for(&core.log, &scope, end, core.time.now())?;
    // Until handles lead to what takes the place of theirs: whoever was refused runs again then.
    let _under_way = core.namespaces.ending.begin(|| core.namespaces.refuse_gone_only());
    refuse_commits(core, &mark)?;
    put_mark(core, scope.number, &mark, Expect::Absent)?;
    core.namespaces.apply_mark(scope.number, mark);
    let gone = core.namespaces.gone();
    core.families.forget(&|ns| gone.has(ns));
    Ok(true)
}

/// Writes that the space of what a scope left behind has been looked for, so that the next opening does not look again.
pub(in crate::engine) fn mark_swept(core: &Core, scope: NsId) -> Result<()> {
    let _change = core.namespaces.lock_scopes();
    let scope = find(core, scope)?;
    let Some(mark) = scope.mark() else { return Ok(()) };
    put_mark(core, scope.number, &ScopeMark { is_swept: true, ..mark.clone() }, Expect::Anything)?;
    core.namespaces.note_swept(scope.number);
    Ok(())
}

/// Refuses commits on what the end of a scope leaves behind, and checks that no prepared transaction has prepared anything
/// there: it must be able to end as it was promised.
fn refuse_commits(core: &Core, mark: &ScopeMark) -> Result<()> {
    core.namespaces.refuse(mark.gone());
    // A commit checks under the locks of its shards. Whoever has checked before has entered by then.
    core.shards.iter().for_each(|cell| drop(cell.shard.lock()));
    list_rows(core, Family::PREPARED, |key, row| {
        let Prepared { state, intent, .. } = Prepared::decode(&core.dir, key.id, &row?.value)?;
        let is_there = |key: Key<'_>| mark.gone().any(|gone| gone == key.ns.listed());
        if state == PreparedState::InDoubt && intent.keys().any(is_there) {
            return Err(Error::InDoubt);
        }
        Ok(())
    })
}

fn put_mark(core: &Core, scope: NsId, mark: &ScopeMark, expect: Expect) -> Result<()> {
    let (id, value) = (scope.0.to_be_bytes(), mark.encode());
    let key = Key { ns: marks(), id: &id };
    let change = RowChange::Put(&value[..]);
    let write = RowWrite { key, change, ttl: Ttl::FOREVER, expect, is_quiet: true };
    let durability = match expect {
        Expect::Anything => Durability::Process,
        Expect::Absent | Expect::Sequence(_) | Expect::Ahead { .. } => Durability::Disk,
    };
    match commit_rows(core, &[write], durability, &mut Bells::default())? {
        Committed::Done(_) => Ok(()),
        Committed::Moved(_) => Err(Error::bug("the end of a replay scope was there already")),
    }
}

fn find(core: &Core, scope: NsId) -> Result<Scope> {
    let found = core.namespaces.scope(scope);
    found.ok_or_else(|| Error::bug(format!("there is no replay scope {}", scope.0)))
}

fn has_ended(scope: &Scope, end: ScopeEnd) -> Error {
    let how = match end {
        ScopeEnd::Promoted => "promoted",
        ScopeEnd::Dropped => "dropped",
    };
    let name = &scope.name;
    Error::invalid(format!(
        "the replay scope {name:?} has been {how} and takes nothing more; begin another one"
    ))
}

/// Returns whether there is a live claim or row under this key.
pub(in crate::engine) fn is_live(core: &Core, key: Key<'_>) -> Result<bool> {
    let now = core.time.now();
    if key.ns.is_row() {
        let row = known_row(core, key, core.hash(key), &mut WaitBudget::default())?;
        return Ok(row.is_some_and(|row| row.version.is_live(now)));
    }
    Ok(known(core, key)?.is_some_and(|known| known.version.is_live(now)))
}
