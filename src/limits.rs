//! Every bound of the engine in one place, with checks of how they relate.

/// Longest id in bytes that is stored as it is. Ids are event ids, not payloads: a longer one is a mistake worth hearing
/// about, unless the store is told to hash it.
pub const ID_BYTES_MAX: usize = 1024;

/// Bytes of the hash that is stored in the place of a longer id, where a store is told to.
pub const DIGEST_BYTES: usize = 32;

/// Longest name of a namespace in bytes.
pub const NAMESPACE_BYTES_MAX: usize = 255;

/// Most ids in one batch: a batch holds the locks of its shards, so its size is a pause for others.
pub const BATCH_IDS_MAX: usize = 65_536;

/// Most bytes of ids in one batch.
pub const BATCH_BYTES_MAX: usize = 4 << 20;

/// Longest record payload in the log: one whole batch, each id with full times.
pub(crate) const RECORD_BYTES_MAX: usize = BATCH_BYTES_MAX + BATCH_IDS_MAX * 32 + 64;

/// Size of a preallocated log segment, and the largest.
pub(crate) const SEGMENT_BYTES: u32 = 16 << 20;

/// Size of a segment on a disk that is nearly full, at least. A record that needs more gets a segment that is larger.
pub(crate) const SEGMENT_BYTES_MIN: u32 = 1 << 20;

/// A segment takes at most one of so many parts of what is free: there is a spare one, and sled writes, too.
pub(crate) const SEGMENT_PART: u64 = 8;

/// Fewest and most shards. The upper bound is the eight hash bits that choose a shard (see `id.rs`).
pub(crate) const SHARDS_MAX: usize = 256;

/// Shards of a new store when nothing is asked.
pub(crate) const SHARDS_DEFAULT: usize = 8;

/// Memory budget in bytes when nothing is asked: unflushed ids, the block cache and buffers. Filters of
/// flushed ids (two and a half bytes each) come on top.
pub(crate) const MEMORY_BUDGET_DEFAULT: usize = 256 << 20;

/// Smallest memory budget: below it the memtables are so small that flushing never ends.
pub(crate) const MEMORY_BUDGET_MIN: usize = 4 << 20;

/// Bytes aimed at per flushed block: one read on a filter hit, and a value size that sled is good at.
pub(crate) const CHUNK_BYTES: u64 = 3_600;

/// Ids of a run that has a locator file, at least. Those of smaller runs were in memory a moment ago, mostly still are, and
/// soon go into a larger one.
pub(crate) const LOCATOR_IDS_MIN: u64 = 2 << 10;

/// Blocks of one run, at most: 15 GB of ids. In a larger run blocks are larger. A manifest that tells of more is
/// none of ours, and to believe it would mean to look for billions of blocks (I12).
pub(crate) const RUN_CHUNKS_MAX: u32 = 1 << 22;

/// Longest ttl: beyond it a deadline in milliseconds would overflow.
pub(crate) const TTL_MS_MAX: u64 = 1 << 56;

/// How long a claim waits for a flush, a reservation or a heal before it says so (I12).
pub(crate) const WAIT_MS_DEFAULT: u64 = 30_000;

/// Most ids that `Store::held` lists: enough to find a worker that hangs.
pub const HELD_LISTED_MAX: usize = 1024;

/// How much engine time may pass that no manifest tells of: how far, at most, time can fall back when a
/// process that claims nothing is killed and the clock is then behind.
pub(crate) const TIME_MARK_MS_MAX: u64 = 10 * 60 * 1_000;

const _: () = assert!(RECORD_BYTES_MAX < SEGMENT_BYTES as usize / 2, "a record fits in a segment");
const _: () = assert!(ID_BYTES_MAX <= BATCH_BYTES_MAX, "one id fits in a batch");
const _: () = assert!(ID_BYTES_MAX <= u16::MAX as usize, "id lengths are stored in 16 bits");
const _: () = assert!(SHARDS_MAX.is_power_of_two() && SHARDS_DEFAULT.is_power_of_two());
