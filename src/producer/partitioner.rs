//! Which partition a record goes to: by its key, as Kafka's clients do it, or as the program says.

use std::fmt;

use crate::record::Record;
use crate::types::{PartitionId, TopicName};

/// Chooses the partition of a record that does not name one itself.
///
/// Called once for every such record, on the sending thread and before anything is encoded; it must be quick and
/// must not send. If it panics, the record is refused with `Error::Panicked` and nothing has changed.
///
/// ```
/// use headwater::{KeyPartitioner, PartitionId, Partitioner, Record, TopicName};
///
/// /// Partition 0 is kept for urgent records; keys share the rest.
/// #[derive(Debug)]
/// struct UrgentFirst;
///
/// impl Partitioner for UrgentFirst {
///     fn partition(&self, topic: &TopicName, record: &Record<'_>, partitions: u32) -> Option<PartitionId> {
///         if partitions == 1 || record.headers().iter().any(|header| header.name == "urgent") {
///             return Some(0);
///         }
///         KeyPartitioner.partition(topic, record, partitions - 1).map(|partition| partition + 1)
///     }
/// }
///
/// let topic = TopicName::new("orders")?;
/// let urgent = Record::new(b"fire").header("urgent", b"");
/// assert_eq!(UrgentFirst.partition(&topic, &urgent, 8), Some(0));
/// let keyed = Record::new(b"paid").key(b"customer-9");
/// assert_ne!(UrgentFirst.partition(&topic, &keyed, 8), Some(0));
/// // No opinion on a record without a key: the producer decides.
/// assert_eq!(UrgentFirst.partition(&topic, &Record::new(b"paid"), 8), None);
/// # Ok::<(), headwater::Error>(())
/// ```
#[doc(alias = "partitioner.class")]
pub trait Partitioner: Send + Sync + fmt::Debug + 'static {
    /// The partition for `record`, out of `0..partitions`; `partitions` is at least 1.
    ///
    /// `None` is no opinion: the producer then stays with one partition for as long as it fills a batch, which
    /// spreads records evenly and keeps batches large. An answer that is not below `partitions` refuses the record
    /// with `Error::UnknownPartition`.
    fn partition(&self, topic: &TopicName, record: &Record<'_>, partitions: u32) -> Option<PartitionId>;
}

/// The default: records of one key go to one partition, and the producer decides on those without.
///
/// The partition is the one that Kafka's Java client computes from the same key (murmur2, its sign bit dropped,
/// modulo the number of partitions), so that all clients of a topic agree. An empty key is a key. More partitions
/// mean another partition for most keys.
///
/// ```
/// use headwater::{KeyPartitioner, Partitioner, Record, TopicName};
/// let topic = TopicName::new("orders")?;
/// assert_eq!(KeyPartitioner.partition(&topic, &Record::new(b"paid").key(b"foobar"), 10), Some(6));
/// assert_eq!(KeyPartitioner.partition(&topic, &Record::new(b"paid"), 10), None);
/// # Ok::<(), headwater::Error>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct KeyPartitioner;

impl Partitioner for KeyPartitioner {
    fn partition(&self, _topic: &TopicName, record: &Record<'_>, partitions: u32) -> Option<PartitionId> {
        debug_assert!(partitions > 0, "a topic with {partitions} partitions");
        // Kafka's `toPositive`: the absolute value would fail for i32::MIN.
        record.key_bytes().map(|key| (murmur2(key).cast_unsigned() & 0x7fff_ffff) % partitions)
    }
}

/// MurmurHash2 (Austin Appleby, 32 bits, little-endian) with the seed of Kafka's Java client.
pub(crate) fn murmur2(bytes: &[u8]) -> i32 {
    const SEED: u32 = 0x9747_b28c;
    const M: u32 = 0x5bd1_e995;

    let (words, tail) = bytes.as_chunks::<4>();
    // Java's lengths are 32 bits wide; a longer key cannot be sent.
    let mut hash = SEED ^ bytes.len() as u32;
    for &word in words {
        let mut word = u32::from_le_bytes(word).wrapping_mul(M);
        word ^= word >> 24;
        hash = hash.wrapping_mul(M) ^ word.wrapping_mul(M);
    }
    if !tail.is_empty() {
        let mut last = [0; 4];
        last[..tail.len()].copy_from_slice(tail);
        hash = (hash ^ u32::from_le_bytes(last)).wrapping_mul(M);
    }
    hash ^= hash >> 13;
    hash = hash.wrapping_mul(M);
    (hash ^ hash >> 15).cast_signed()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_hash_as_in_the_java_client() {
        // Kafka's org.apache.kafka.common.utils.UtilsTest, and the empty key as the Java client hashes it.
        let cases: [(&[u8], i32); 8] = [
            (b"21", -973_932_308),
            (b"foobar", -790_332_482),
            (b"a-little-bit-long-string", -985_981_536),
            (b"a-little-bit-longer-string", -1_486_304_829),
            (b"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58_897_971),
            (b"abc", 479_470_107),
            (&[12, 42, 56, 24, 109, 111], 274_204_207),
            (b"", 275_646_681),
        ];
        for (key, hash) in cases {
            assert_eq!(murmur2(key), hash, "murmur2 of {:?}", String::from_utf8_lossy(key));
        }
    }

    #[test]
    fn a_key_goes_where_the_java_client_sends_it_and_a_negative_hash_stays_in_range() {
        let topic = TopicName::new("orders").expect("a good name");
        let partition_of = |key: &[u8], n| KeyPartitioner.partition(&topic, &Record::new(b"").key(key), n);
        // UtilsTest and kafkautil: the hashes above without their sign bit.
        assert_eq!(partition_of(b"21", 1000), Some(1_173_551_340 % 1000));
        assert_eq!(partition_of(b"foobar", 10), Some(1_357_151_166 % 10));
        assert_eq!(partition_of(b"abc", 7), Some(479_470_107 % 7));
        assert_eq!(partition_of(b"foobar", 1), Some(0));
        assert_eq!(KeyPartitioner.partition(&topic, &Record::new(b"x"), 10), None, "a record without a key");
    }
}
