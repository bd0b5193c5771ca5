//! What the server does in one step: each script runs alone, and is in the append-only file and at replicas whole or not
//! at all.
//!
//! Each touches only the keys that it is given. Ids are texts in them: a number of Lua does not hold 64 bits.

use redis::Script;
use std::sync::LazyLock;

macro_rules! scripts {
    ($($(#[$doc:meta])* $name:ident = $text:expr;)*) => {
        $($(#[$doc])* pub(crate) static $name: LazyLock<Script> = LazyLock::new(|| Script::new($text));)*
    };
}

scripts! {
    /// KEYS: stream. ARGV: group, position, 1 to create the stream. Creates the group, and says how many entries it has
    /// read where that is known, so that entries can be missed that are trimmed before it has read them.
    CREATE = r"
local create = {'XGROUP', 'CREATE', KEYS[1], ARGV[1], ARGV[2]}
if ARGV[3] == '1' then create[#create + 1] = 'MKSTREAM' end
if redis.call('EXISTS', KEYS[1]) == 1 then
    local list, is = redis.call('XINFO', 'STREAM', KEYS[1]), {}
    for i = 1, #list, 2 do is[list[i]] = list[i + 1] end
    local added, read = is['entries-added'], nil
    if added and ARGV[2] == '0-0' then
        read = added - is.length
    elseif added and ARGV[2] == '$' then
        read = added
    end
    if read then
        create[#create + 1] = 'ENTRIESREAD'
        create[#create + 1] = string.format('%.0f', read)
    end
end
return redis.call(unpack(create))";

    /// KEYS: stream. ARGV: group, consumer, then pairs of id and idle time. Sets the idle time of entries without counting a
    /// delivery, as long as they are this consumer's. Says for each: 1 done; 0 another consumer has it; 2 it is not in the
    /// stream any more, and nobody waits for it; 3 it is acknowledged.
    ///
    /// XCLAIM takes an entry that is deleted off the pending list.
    KEEP = r"
local said = {}
for i = 3, #ARGV, 2 do
    local id, is = ARGV[i], 0
    if #redis.call('XPENDING', KEYS[1], ARGV[1], id, id, 1, ARGV[2]) > 0 then
        local kept = redis.call('XCLAIM', KEYS[1], ARGV[1], ARGV[2], 0, id, 'IDLE', ARGV[i + 1], 'JUSTID')
        is = (#kept > 0) and 1 or 2
    elseif #redis.call('XPENDING', KEYS[1], ARGV[1], id, id, 1) == 0 then
        is = (#redis.call('XRANGE', KEYS[1], id, id) > 0) and 3 or 2
    end
    said[#said + 1] = is
end
return said";

    /// KEYS: stream. ARGV: group, consumer, min-idle, then ids. Claims those that have been idle for so long. Returns the
    /// entries, how often each was delivered, and the ids of those that are not in the stream any more.
    TAKE = r"
local entries, counts, gone = {}, {}, {}
for i = 4, #ARGV do
    local id = ARGV[i]
    if #redis.call('XPENDING', KEYS[1], ARGV[1], 'IDLE', ARGV[3], id, id, 1) > 0 then
        local entry = redis.call('XCLAIM', KEYS[1], ARGV[1], ARGV[2], ARGV[3], id)[1]
        if entry then
            entries[#entries + 1] = entry
            counts[#counts + 1] = redis.call('XPENDING', KEYS[1], ARGV[1], id, id, 1)[1][4]
        else
            gone[#gone + 1] = id
        end
    end
end
return {entries, counts, gone}";

    /// KEYS: stream. ARGV: group, consumer, min-idle, where to begin, count. Claims what has been idle for so long. Returns
    /// as `TAKE`, and where to go on.
    CLAIM = r"
local found = redis.call('XAUTOCLAIM', KEYS[1], ARGV[1], ARGV[2], ARGV[3], ARGV[4], 'COUNT', ARGV[5])
local counts = {}
for i, entry in ipairs(found[2]) do
    counts[i] = redis.call('XPENDING', KEYS[1], ARGV[1], entry[1], entry[1], 1)[1][4]
end
return {found[2], counts, found[3], found[1]}";

    /// KEYS: stream. ARGV: group, consumer, after which id, count. Reads what is pending for this consumer; an entry that is
    /// not in the stream any more has no fields, and no count.
    OWN = r"
local read = redis.call('XREADGROUP', 'GROUP', ARGV[1], ARGV[2], 'COUNT', ARGV[4], 'STREAMS', KEYS[1], ARGV[3])
local entries, counts = read and read[1][2] or {}, {}
for i, entry in ipairs(entries) do
    local pending = redis.call('XPENDING', KEYS[1], ARGV[1], entry[1], entry[1], 1)[1]
    counts[i] = pending and pending[4] or 0
end
return {entries, counts, {}}";

    /// KEYS: stream. ARGV: group, the consumer that asks, idle time, how names begin. Removes consumers whose name begins
    /// so, that wait for nothing, and were not heard of for so long. Returns how many. A consumer that is removed while
    /// something is pending for it takes that with it: nobody would have it again.
    PRUNE = r"
local removed = 0
for _, consumer in ipairs(redis.call('XINFO', 'CONSUMERS', KEYS[1], ARGV[1])) do
    local is = {}
    for i = 1, #consumer, 2 do is[consumer[i]] = consumer[i + 1] end
    if is.pending == 0 and is.idle >= tonumber(ARGV[3]) and is.name ~= ARGV[2]
        and string.sub(is.name, 1, #ARGV[4]) == ARGV[4] then
        redis.call('XGROUP', 'DELCONSUMER', KEYS[1], ARGV[1], is.name)
        removed = removed + 1
    end
end
return removed";

    /// KEYS: stream. ARGV: how the names of marks begin, a new mark. Returns the stream's mark, which it is given if it has
    /// none: a consumer group that nobody reads from. It goes where the stream goes, and ends with it. It is behind the
    /// last id that can be, so that nothing lags behind it.
    MARK = r"
for _, group in ipairs(redis.call('XINFO', 'GROUPS', KEYS[1])) do
    for i = 1, #group, 2 do
        if group[i] == 'name' and string.sub(group[i + 1], 1, #ARGV[1]) == ARGV[1] then
            return string.sub(group[i + 1], #ARGV[1] + 1)
        end
    end
end
redis.call('XGROUP', 'CREATE', KEYS[1], ARGV[1] .. ARGV[2], '18446744073709551615-18446744073709551615')
return ARGV[2]";

    /// KEYS: stream. ARGV: group. Returns how the group stands: lag, entries read, last delivered; and the stream:
    /// length, entries added, last id, first id. Nil: the server does not know. Nil alone: there is no such group.
    STANDING = r"
local function named(list)
    local is = {}
    for i = 1, #list, 2 do is[list[i]] = list[i + 1] end
    return is
end
for _, group in ipairs(redis.call('XINFO', 'GROUPS', KEYS[1])) do
    local of = named(group)
    if of.name == ARGV[1] then
        local stream = named(redis.call('XINFO', 'STREAM', KEYS[1]))
        local first = stream['first-entry']
        return {
            of.lag or false, of['entries-read'] or false, of['last-delivered-id'],
            stream.length, stream['entries-added'] or false, stream['last-generated-id'],
            first and first[1] or false,
        }
    end
end
return false";

    /// KEYS: stream, dead letters, mark. ARGV: group, id, how long the mark stays (ms), then fields and values. Adds a dead
    /// letter and acknowledges its entry. Returns 0 if the entry was acknowledged before, or is to come again: then nothing
    /// is added.
    BURY = r"
local pending = redis.pcall('XPENDING', KEYS[1], ARGV[1], ARGV[2], ARGV[2], 1)
if (pending.err or #pending == 0) and #redis.call('XRANGE', KEYS[1], ARGV[2], ARGV[2]) > 0 then return 0 end
if redis.call('EXISTS', KEYS[3]) == 0 then
    redis.call('XADD', KEYS[2], '*', unpack(ARGV, 4))
    redis.call('SET', KEYS[3], '1', 'PX', ARGV[3])
end
redis.call('XACK', KEYS[1], ARGV[1], ARGV[2])
return 1";

    /// KEYS: stream. ARGV: group, id. The first part of `BURY`, where dead letters are kept at another node: whether the
    /// entry is to be one.
    MAY_BURY = r"
local pending = redis.pcall('XPENDING', KEYS[1], ARGV[1], ARGV[2], ARGV[2], 1)
if (pending.err or #pending == 0) and #redis.call('XRANGE', KEYS[1], ARGV[2], ARGV[2]) > 0 then return 0 end
return 1";

    /// KEYS: dead letters, mark. ARGV: how long the mark stays (ms), then fields and values. The second part of `BURY`.
    LAY = r"
if redis.call('EXISTS', KEYS[2]) == 0 then
    redis.call('XADD', KEYS[1], '*', unpack(ARGV, 2))
    redis.call('SET', KEYS[2], '1', 'PX', ARGV[1])
end
return 1";
}
