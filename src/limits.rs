//! Every bound of the engine in one place, with checks of how they relate.

/// Longest id in bytes that is stored verbatim. Ids are event ids, not payloads: a longer one is probably a mistake,
/// so it is an error unless the store is set to hash it.
pub const ID_BYTES_MAX: usize = 1024;

/// Size in bytes of the hash stored instead of a longer id, if the store is set to do so.
pub const DIGEST_BYTES: usize = 32;

/// Longest namespace name in bytes.
pub const NAMESPACE_BYTES_MAX: usize = 255;

/// Most ids in one batch: a batch holds the locks of its shards, so a larger one stalls others longer.
pub const BATCH_IDS_MAX: usize = 65_536;

/// Most bytes of ids in one batch.
pub const BATCH_BYTES_MAX: usize = 4 << 20;

/// Longest value of a row in bytes.
pub(crate) const VALUE_BYTES_MAX: usize = 4 << 20;

/// Most bytes of a commit record.
pub(crate) const COMMIT_BYTES_MAX: usize = RECORD_BYTES_MAX - 16;

/// Longest log record payload in bytes: one whole batch, each id with full times.
pub(crate) const RECORD_BYTES_MAX: usize = BATCH_BYTES_MAX + BATCH_IDS_MAX * 32 + 64;

/// Size in bytes of a preallocated log segment, and the maximum.
pub(crate) const SEGMENT_BYTES: u32 = 16 << 20;

/// Smallest segment in bytes, for a nearly full disk. A larger record gets a larger segment.
pub(crate) const SEGMENT_BYTES_MIN: u32 = 1 << 20;

/// A segment takes at most the free space divided by this: the spare segment and sled need space, too.
pub(crate) const SEGMENT_PART: u64 = 8;

/// Most shards: eight bits of the hash choose one (see `id.rs`).
pub(crate) const SHARDS_MAX: usize = 256;

/// Returns the number of shards of a new store on a machine with so many processors: so many more than threads that can run
/// at once that a claim seldom finds its shard taken. More made no more claims, with 1 to 64 threads (`benches/threads.rs`),
/// and each has memtables and runs of its own.
pub(crate) fn shards_default(processors: usize) -> usize {
    processors.saturating_mul(4).clamp(8, 64).next_power_of_two()
}

/// Default memory budget in bytes: unflushed ids, the block cache and buffers. Filters of flushed ids (two and a half
/// bytes each) are extra.
pub(crate) const MEMORY_BUDGET_DEFAULT: usize = 256 << 20;

/// Smallest memory budget in bytes: below it the memtables are so small that flushing never ends.
pub(crate) const MEMORY_BUDGET_MIN: usize = 4 << 20;

/// Target size in bytes of a flushed block: one read per filter hit, and a value size that suits sled.
pub(crate) const BLOCK_BYTES: u64 = 3_600;

/// Smallest number of ids for which a run gets a locator file. Smaller runs are recent: most of their ids are still
/// in memory, and they are soon merged.
pub(crate) const LOCATOR_IDS_MIN: u64 = 2 << 10;

/// Most blocks of one run: 15 GB of ids. A larger run has larger blocks. Reject larger counts: they can only come
/// from a corrupt manifest, and trusting one would mean looking for billions of blocks (I12).
pub(crate) const RUN_BLOCKS_MAX: u32 = 1 << 22;

/// Longest ttl in milliseconds: beyond it a deadline would overflow.
pub(crate) const TTL_MS_MAX: u64 = 1 << 56;

/// Latest event time in milliseconds since the epoch, and the longest window and lateness: the ends that follow from them
/// must fit into a key of a generation.
pub const EVENT_TIME_MS_MAX: u64 = 1 << 46;

/// Most windows over event time that one event may be in.
pub const WINDOWS_PER_EVENT_MAX: u64 = 1_000;

/// Longest name of a source of events in bytes.
pub const SOURCE_BYTES_MAX: usize = 255;

/// Default wait in milliseconds for a flush, a reservation or a heal before a claim fails (I12).
pub(crate) const WAIT_MS_DEFAULT: u64 = 30_000;

/// Most ids that `Store::held` lists: enough to find a hanging worker.
pub const HELD_LISTED_MAX: usize = 1024;

/// Most engine time in milliseconds that may pass without a manifest recording it. Time can fall back by this much if
/// a process that claims nothing is killed and the clock is behind afterwards.
pub(crate) const TIME_MARK_MS_MAX: u64 = 10 * 60 * 1_000;

const _: () = assert!(RECORD_BYTES_MAX < SEGMENT_BYTES as usize / 2, "a record fits in a segment");
const _: () =
    assert!(VALUE_BYTES_MAX + ID_BYTES_MAX + 128 <= RECORD_BYTES_MAX, "a row fits in a record");
const _: () = assert!(ID_BYTES_MAX <= BATCH_BYTES_MAX, "one id fits in a batch");
const _: () = assert!(ID_BYTES_MAX <= u16::MAX as usize, "id lengths are stored in 16 bits");
const _: () = assert!(SHARDS_MAX.is_power_of_two());

/// How many sequences of rows a manifest reserves: so many that no store writes one for this alone.
pub(crate) const SEQUENCES_AHEAD: u64 = 1 << 28;

/// Sequences of rows end before this number. One a nanosecond lasts for three hundred years, and no sum overflows.
pub(crate) const SEQUENCE_END: u64 = 1 << 63;

/// How many sequences belong to one epoch of a restored store: those of 16,384 openings, or of a million rows a second for
/// fifty days.
pub(crate) const EPOCH_SEQUENCES: u64 = 1 << 42;

/// Greatest epoch of a restored store.
pub const EPOCH_MAX: u64 = SEQUENCE_END / EPOCH_SEQUENCES - 1;

/// Longest id of a ledger in bytes. Four bytes less than that of a claim: the rows of its stages add their number.
pub const LEDGER_ID_BYTES_MAX: usize = ID_BYTES_MAX - 4;

/// Most ended attempts that a record of a ledger keeps.
pub const LEDGER_HISTORY_MAX: usize = 32;

/// Longest reason in bytes that is kept of a failed attempt; a longer one is cut.
pub const LEDGER_REASON_BYTES_MAX: usize = 1024;

/// Longest name of a worker or of a stage in bytes.
pub const LEDGER_NAME_BYTES_MAX: usize = 255;

/// Longest result, payload or saved stage of a ledger in bytes.
pub const LEDGER_VALUE_BYTES_MAX: usize = VALUE_BYTES_MAX - (64 << 10);

/// Maximum number of saved stages of one id. With the next limit: what ends a record changes all rows beside it in one
/// commit.
pub const LEDGER_STAGES_MAX: u32 = 1024;

/// Maximum size of the payload and all saved stages of one id together, in bytes.
pub const LEDGER_KEPT_BYTES_MAX: u64 = VALUE_BYTES_MAX as u64 + (512 << 10);

const _: () = assert!(
    LEDGER_KEPT_BYTES_MAX as usize
        + LEDGER_STAGES_MAX as usize * (ID_BYTES_MAX + LEDGER_NAME_BYTES_MAX + 64)
        + LEDGER_HISTORY_MAX * (LEDGER_REASON_BYTES_MAX + LEDGER_NAME_BYTES_MAX + 64)
        < COMMIT_BYTES_MAX
);

/// Longest message of the outbox in bytes: payload, key and given id together.
pub const OUTBOX_MESSAGE_BYTES_MAX: usize = VALUE_BYTES_MAX - (64 << 10);

/// Default number of messages that may wait in a topic.
pub const OUTBOX_PENDING_MAX_DEFAULT: usize = 1_000_000;

/// Most bytes of messages of which a store keeps copies in memory.
pub(crate) const OUTBOX_COPIES_BYTES_MAX: u64 = 8 << 20;

/// The longest message of which a copy is kept: it is made while a commit holds the locks of its shards.
pub(crate) const OUTBOX_COPY_BYTES_MAX: usize = 64 << 10;

/// Most messages in one batch of a relay.
pub const RELAY_BATCH_MAX: usize = 4_096;

/// Most bytes of messages in one batch of a relay; a longer message is a batch of its own. So what becomes of a batch
/// fits into one commit, also if all of it dies.
pub const RELAY_BATCH_BYTES_MAX: usize = 1 << 20;

/// Most workers of one relay.
pub const RELAY_WORKERS_MAX: usize = 1_024;

/// Longest reason in bytes that is kept of a message that could not be delivered; a longer one is cut.
pub const OUTBOX_REASON_BYTES_MAX: usize = 1024;

const _: () = assert!(
    (RELAY_BATCH_BYTES_MAX + RELAY_BATCH_MAX * (OUTBOX_REASON_BYTES_MAX + 256)) < COMMIT_BYTES_MAX
);
const _: () = assert!(
    OUTBOX_MESSAGE_BYTES_MAX + OUTBOX_REASON_BYTES_MAX + 256 < VALUE_BYTES_MAX,
    "a message that could not be delivered fits with its reason"
);

/// How long in milliseconds it is known how a prepared transaction ended: a week.
pub(crate) const PREPARED_KEPT_MS: u64 = 7 * 24 * 60 * 60 * 1_000;

/// How often a call decides anew when others first change what it rests on. Each time, one of the others has succeeded.
pub(crate) const RACES_MAX: usize = 1_000;

/// How many bytes of an id are shown in logs.
pub(crate) const SHOWN_ID_BYTES_MAX: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_store_has_four_shards_for_each_processor_within_bounds() {
        let shards = [1, 2, 3, 4, 12, 16, 17, 1_000, usize::MAX].map(shards_default);
        assert_eq!(shards, [8, 8, 16, 16, 64, 64, 64, 64, 64]);
    }
}
