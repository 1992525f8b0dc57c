//! Which partition a key goes to: murmur2 of its bytes, as Java's Kafka clients do.
//!
//! Source: `org.apache.kafka.common.utils.Utils.murmur2` and `toPositive`, Apache Kafka 3.7.

const SEED: u32 = 0x9747_b28c;
const M: u32 = 0x5bd1_e995;
const R: u32 = 24;

/// Returns the partition of a serialized key among `count`; 0 when `count` is 0.
pub fn of(key: &[u8], count: u32) -> u32 {
    // Java's `toPositive` clears the sign bit.
    (murmur2(key) & 0x7fff_ffff).checked_rem(count).unwrap_or(0)
}

fn murmur2(bytes: &[u8]) -> u32 {
    let mut h = SEED ^ bytes.len() as u32;
    let (words, rest) = bytes.as_chunks::<4>();
    for word in words {
        let mut k = u32::from_le_bytes(*word).wrapping_mul(M);
        k ^= k >> R;
        h = h.wrapping_mul(M) ^ k.wrapping_mul(M);
    }
    if !rest.is_empty() {
        for (i, byte) in rest.iter().enumerate() {
            h ^= u32::from(*byte) << (8 * i);
        }
        h = h.wrapping_mul(M);
    }
    h ^= h >> 13;
    h = h.wrapping_mul(M);
    h ^ (h >> 15)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The cases of Kafka's own `UtilsTest.testMurmur2`.
    #[test]
    fn hashes_as_java_does() {
        let rows: [(&str, i32); 7] = [
            ("21", -973_932_308),
            ("foobar", -790_332_482),
            ("a-little-bit-long-string", -985_981_536),
            ("a-little-bit-longer-string", -1_486_304_829),
            ("lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58_897_971),
            ("abc", 479_470_107),
            ("", 275_646_681),
        ];
        for (text, hash) in rows {
            assert_eq!(murmur2(text.as_bytes()) as i32, hash, "{text}");
        }
        assert_eq!(of(b"21", 4), ((-973_932_308_i32 as u32) & 0x7fff_ffff) % 4);
    }
}
