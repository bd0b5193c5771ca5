//! Records as `src/wal/record/encode.rs` writes a claim: checksum, length, kind, age, id.

/// Bytes of an id.
pub const ID: usize = 16;
/// Offset of the first record of a segment.
pub const DATA_START: u32 = 4096;
/// Space that every segment keeps for its end mark.
pub const END_BYTES: u32 = 11;
/// A record with a 16-byte id and an age of two bytes.
pub const CLAIM_BYTES: u32 = 24;

const CRC: usize = 4;
const CLAIM: u8 = 1;
const SKIP: u8 = 14;
const END: u8 = 15;

/// What is claimed, and when.
#[derive(Clone, Copy)]
pub struct Claim {
    pub at: u64,
    pub id: [u8; ID],
}

/// What the checksum of a record starts from, and the base of its time.
#[derive(Clone, Copy)]
pub struct Context {
    pub salt: u32,
    pub base: u64,
}

impl Context {
    fn start(self, offset: u32) -> u32 {
        self.salt ^ offset.wrapping_mul(0x9e37_79b1)
    }
}

fn varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn varint_len(value: u64) -> u32 {
    (64 - (value | 1).leading_zeros()).div_ceil(7)
}

/// Encodes all of a claim but its checksum, which depends on where it will be.
#[inline]
pub fn encode(out: &mut Vec<u8>, context: Context, claim: &Claim) {
    let age = claim.at - context.base;
    out.clear();
    out.extend_from_slice(&[0; CRC]);
    varint(out, u64::from(1 + varint_len(age)) + ID as u64);
    out.push(CLAIM);
    varint(out, age);
    out.extend_from_slice(&claim.id);
}

/// Sets the checksum.
#[inline]
pub fn finish(out: &mut [u8], context: Context, offset: u32) {
    let crc = crc32c::crc32c_append(context.start(offset), &out[CRC..]);
    out[..CRC].copy_from_slice(&crc.to_le_bytes());
}

/// Encodes the end mark of a segment.
pub fn encode_end(out: &mut Vec<u8>, next: u32) {
    number(out, END, u64::from(next));
}

/// Encodes a mark over `bytes` in all that hold nothing.
pub fn encode_skip(out: &mut Vec<u8>, bytes: u32) {
    // The mark itself takes 7 bytes as long as what it skips fits a varint of one.
    number(out, SKIP, u64::from(bytes - 7));
}

fn number(out: &mut Vec<u8>, kind: u8, value: u64) {
    out.clear();
    out.extend_from_slice(&[0; CRC]);
    varint(out, 1 + u64::from(varint_len(value)));
    out.push(kind);
    varint(out, value);
}

/// What was found at a location.
#[derive(Debug, PartialEq, Eq)]
pub enum Found {
    Claim([u8; ID], u32),
    Skip(u32),
    End(u32),
    Nothing,
    Damage,
}

/// Reads what is at an offset of a segment.
pub fn decode(segment: &[u8], context: Context, offset: u32) -> Found {
    let bytes = &segment[offset as usize..];
    if bytes.iter().take(14).all(|byte| *byte == 0) {
        return Found::Nothing;
    }
    let len = usize::from(bytes.get(CRC).copied().unwrap_or(0));
    let total = CRC + 1 + len;
    let (true, Some(record)) = (len > 0 && len < 0x80, bytes.get(..total)) else {
        return Found::Damage;
    };
    let crc = crc32c::crc32c_append(context.start(offset), &record[CRC..]);
    if record[..CRC] != crc.to_le_bytes() {
        return Found::Damage;
    }
    let payload = &record[CRC + 2..];
    let value = payload
        .iter()
        .enumerate()
        .fold(0, |sum, (n, b)| sum | u32::from(b & 0x7f) << (7 * n).min(28));
    match record[CRC + 1] {
        CLAIM => {
            let id = payload.last_chunk().copied().unwrap_or_default();
            Found::Claim(id, total as u32)
        }
        SKIP => Found::Skip(total as u32 + value),
        END => Found::End(value),
        _ => Found::Damage,
    }
}
