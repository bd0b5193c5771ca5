//! The CRC-32C of two parts one after the other, from those of each.
//!
//! A checksum is a remainder of polynomials over one bit, so what follows a part multiplies its checksum by `x` to the power
//! of the bits that follow. That power is a product of a few that are known: as in zlib's `crc32_combine` since 1.2.12,
//! which takes less than a microsecond where squaring a matrix for each bit of the length takes some eighty.

/// From this length on, two checksums are joined in less time than that of the bytes takes.
pub(super) const LONG: usize = 16 << 10;

/// The polynomial of CRC-32C, its lowest power in the highest bit.
const POLYNOMIAL: u32 = 0x82f6_3b78;

/// The polynomial 1.
const ONE: u32 = 1 << 31;

/// `x` to the power of `2^n`.
const POWERS: [u32; 32] = {
    let mut powers = [ONE >> 1; 32];
    let mut n = 1;
    while n < powers.len() {
        powers[n] = product(powers[n - 1], powers[n - 1]);
        n += 1;
    }
    powers
};

/// Returns the product of two polynomials, as a remainder.
const fn product(a: u32, mut b: u32) -> u32 {
    let (mut sum, mut bit) = (0, ONE);
    while bit != 0 {
        if a & bit != 0 {
            sum ^= b;
        }
        b = if b & 1 == 0 { b >> 1 } else { (b >> 1) ^ POLYNOMIAL };
        bit >>= 1;
    }
    sum
}

/// Returns the checksum of two parts, of which the second has this length in bytes.
pub(super) fn joined(first: u32, second: u32, second_len: u32) -> u32 {
    let mut power = ONE;
    let mut bits = u64::from(second_len) * 8;
    while bits != 0 {
        let n = bits.trailing_zeros();
        // Powers of `x` repeat after `2^31 - 1` of them.
        power = product(power, POWERS[n as usize % 31]);
        bits &= bits - 1;
    }
    product(power, first) ^ second
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn joined_checksums_are_that_of_the_whole() {
        let bytes: Vec<u8> =
            (0..70_000_u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
        for cut in [0, 1, 2, 3, 7, 31, 64, 4_095, 4_096, 65_536, 69_999, 70_000] {
            let (first, second) = bytes.split_at(cut);
            let joined = joined(crc32c::crc32c(first), crc32c::crc32c(second), second.len() as u32);
            assert_eq!(joined, crc32c::crc32c(&bytes), "{cut}");
        }
    }

    #[test]
    fn lengths_have_no_limit() {
        // Zeros: the checksum of twice as many from that of some.
        let (mut ours, mut theirs) = (crc32c::crc32c(&[0]), crc32c::crc32c(&[0]));
        for power in 0..32 {
            ours = joined(ours, ours, 1 << power);
            theirs = crc32c::crc32c_combine(theirs, theirs, 1 << power);
            assert_eq!(ours, theirs, "{power}");
        }
    }
}
