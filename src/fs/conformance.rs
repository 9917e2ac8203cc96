//! What every file system must do, as one list that the disk and the simulator are both held to: a store that was
//! proven on the one then runs on the other.

use std::io::ErrorKind;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::fs::disk::Disk;
use crate::fs::{File, Fs, Region};

/// Goes through the list in a directory `root` that exists and is empty.
pub(super) fn check(fs: &dyn Fs, root: &Path) {
    names_are_taken_given_and_listed(fs, root);
    directories_are_made_and_removed_whole(fs, root);
    bytes_are_read_as_written(fs, root);
    lengths_move_both_ways_and_new_bytes_are_zeros(fs, root);
    allocation_keeps_what_is_there(fs, root);
    zeroing_stays_within_its_range_and_the_file(fs, root);
    maps_lie_within_their_file_and_see_writes(fs, root);
    a_file_opened_for_reading_refuses_writes(fs, root);
    a_removed_file_lives_on_for_those_who_hold_it(fs, root);
    a_lock_has_one_holder_until_it_is_dropped(fs, root);
    the_rest_answers(fs, root);
    assert_eq!(names(fs, root), [""; 0], "a check left something behind");
}

/// What holds besides on a file system that says it has a unified cache.
pub(super) fn check_unified_cache(fs: &dyn Fs, root: &Path) {
    let path = root.join("unified");
    let file = fs.create(&path).expect("create");
    file.set_len(4096).expect("set_len");
    let region = file.map(4096).expect("map");
    file.write_at(b"written", 80).expect("write_at");
    assert_word(&region, 10, *b"written\0", "a map does not see a write");
    if has_stored(&region, 11, *b"through ") {
        assert_eq!(content(&*file)[88..96], *b"through ", "a read does not see a store through the map");
        assert_eq!(content(&*file)[80..88], *b"written\0", "a store through the map undid a write");
    }
    drop(region);
    fs.remove(&path).expect("remove");
}

fn names_are_taken_given_and_listed(fs: &dyn Fs, root: &Path) {
    let (a, b) = (root.join("a"), root.join("b"));
    assert_eq!(fs.open(&a).expect_err("nothing is there").kind(), ErrorKind::NotFound);
    assert_eq!(fs.open_read(&a).expect_err("nothing is there").kind(), ErrorKind::NotFound);
    assert_eq!(fs.remove(&a).expect_err("nothing is there").kind(), ErrorKind::NotFound);
    assert_eq!(fs.rename(&a, &b).expect_err("nothing is there").kind(), ErrorKind::NotFound);
    let file = fs.create(&a).expect("create");
    file.write_at(b"a", 0).expect("write_at");
    assert_eq!(fs.create(&a).expect_err("the name is taken").kind(), ErrorKind::AlreadyExists);
    fs.create(&b).expect("create").write_at(b"bb", 0).expect("write_at");
    assert_eq!(names(fs, root), ["a", "b"]);
    fs.rename(&a, &b).expect("rename takes the place of what had the name");
    fs.rename(&b, &b).expect("rename to the same name");
    assert_eq!(names(fs, root), ["b"]);
    assert_eq!(content(&*fs.open(&b).expect("open")), b"a");
    file.write_at(b"x", 0).expect("an open file follows its name");
    assert_eq!(content(&*fs.open_read(&b).expect("open")), b"x");
    fs.sync_dir(root).expect("sync_dir");
    fs.remove(&b).expect("remove");
    assert_eq!(names(fs, root), [""; 0]);
    assert_eq!(fs.create(&root.join("no/file")).expect_err("no such directory").kind(), ErrorKind::NotFound);
    assert_eq!(fs.list(&a).expect_err("no such directory").kind(), ErrorKind::NotFound);
    assert_eq!(fs.remove_dir(&a).expect_err("no such directory").kind(), ErrorKind::NotFound);
}

fn directories_are_made_and_removed_whole(fs: &dyn Fs, root: &Path) {
    let (top, deep) = (root.join("top"), root.join("top/middle/deep"));
    fs.create_dir(&deep).expect("create_dir makes those above");
    fs.create_dir(&deep).expect("create_dir is fine with what exists");
    fs.create(&deep.join("file")).expect("create");
    fs.create(&top.join("other")).expect("create");
    assert_eq!(names(fs, &top), ["middle", "other"]);
    assert_eq!(names(fs, &deep), ["file"]);
    fs.create_dir(&top.join("other")).expect_err("a file has the name");
    fs.remove(&deep).expect_err("a directory is not removed as a file");
    fs.sync_dir(&deep).expect("sync_dir");
    fs.remove_dir(&top).expect("remove_dir");
    assert_eq!(names(fs, root), [""; 0]);
    assert_eq!(fs.open(&deep.join("file")).expect_err("it was removed").kind(), ErrorKind::NotFound);
}

fn bytes_are_read_as_written(fs: &dyn Fs, root: &Path) {
    let path = root.join("bytes");
    let file = fs.create(&path).expect("create");
    assert_eq!(file.len().expect("len"), 0);
    assert_eq!(file.read_at(&mut [1; 4], 0).expect("nothing to read"), 0);
    // Every way a range can lie across words and pages, against a plain vector.
    let mut model = Vec::new();
    for (at, len) in [(0, 1), (1, 7), (8, 8), (3, 30), (4090, 12), (4096, 4096), (10_001, 513), (9_999, 3), (13, 0)] {
        let bytes: Vec<u8> = (0..len).map(|i| (at + i * 7 + 1) as u8).collect();
        file.write_at(&bytes, at as u64).expect("write_at");
        if len > 0 {
            model.resize(model.len().max(at + len), 0);
            model[at..at + len].copy_from_slice(&bytes);
        }
        assert!(content(&*file) == model, "after {len} bytes at {at} the file is not what was written");
    }
    for (at, len) in [(0, 3), (5, 20), (4_095, 2), (10_510, 4), (10_513, 100), (10_514, 1), (20_000, 1)] {
        let mut buf = vec![0xee; len];
        let read = file.read_at(&mut buf, at as u64).expect("read_at");
        assert_eq!(&buf[..read], &model[at.min(model.len())..(at + len).min(model.len())], "{len} bytes at {at}");
        assert!(buf[read..].iter().all(|byte| *byte == 0xee), "the buffer behind the end of the file was written");
    }
    file.sync_data().expect("sync_data");
    assert!(content(&*fs.open(&path).expect("open")) == model, "opened again, the file is another");
    fs.remove(&path).expect("remove");
}

fn lengths_move_both_ways_and_new_bytes_are_zeros(fs: &dyn Fs, root: &Path) {
    let path = root.join("length");
    let file = fs.create(&path).expect("create");
    let mut model = vec![7; 9_000];
    file.write_at(&model, 0).expect("write_at");
    for len in [8_999, 8_190, 8_201, 5, 4_000, 3, 0, 1, 9_000] {
        file.set_len(len).expect("set_len");
        assert_eq!(file.len().expect("len"), len);
        model.resize(len as usize, 0);
        assert!(content(&*file) == model, "at a length of {len} what was cut off came back, or more was cut off");
    }
    fs.remove(&path).expect("remove");
}

fn allocation_keeps_what_is_there(fs: &dyn Fs, root: &Path) {
    let path = root.join("allocate");
    let file = fs.create(&path).expect("create");
    file.set_len(10_000).expect("set_len");
    file.write_at(b"there", 5_000).expect("write_at");
    file.allocate(0..10_000).expect("allocate");
    file.allocate(77..77).expect("allocate nothing");
    file.allocate(9_000..12_000).expect("allocate behind the end");
    let mut expected = vec![0; 12_000];
    expected[5_000..5_005].copy_from_slice(b"there");
    assert!(content(&*file) == expected, "allocation changed what is there");
    fs.remove(&path).expect("remove");
}

fn zeroing_stays_within_its_range_and_the_file(fs: &dyn Fs, root: &Path) {
    let path = root.join("zero");
    let file = fs.create(&path).expect("create");
    let mut expected = vec![9; 20_000];
    file.write_at(&expected, 0).expect("write_at");
    for range in [3..5, 8..16, 100..100, 4_000..12_345, 19_990..30_000, 40_000..50_000] {
        file.zero(range.clone()).expect("zero");
        let within = range.start.min(20_000) as usize..range.end.min(20_000) as usize;
        expected[within].fill(0);
        assert!(content(&*file) == expected, "zeroing {range:?} left the wrong bytes");
    }
    fs.remove(&path).expect("remove");
}

fn maps_lie_within_their_file_and_see_writes(fs: &dyn Fs, root: &Path) {
    let path = root.join("map");
    let file = fs.create(&path).expect("create");
    assert!(file.map(0).expect("an empty map").is_empty());
    file.map(1).expect_err("behind the end");
    file.write_at(&[1; 8192], 0).expect("write_at");
    file.map(8193).expect_err("behind the end");
    let region = file.map(4100).expect("map");
    assert_eq!(region.len(), 4100);
    assert_eq!(region.as_ptr().align_offset(8), 0);
    let reader = fs.open_read(&path).expect("open_read").map(8192).expect("map for reading");
    assert_word(&reader, 1023, [1; 8], "a map does not see an earlier write");
    file.write_at(&[2; 8], 8184).expect("write_at");
    assert_word(&reader, 1023, [2; 8], "a map does not see a later write");
    drop((region, reader));
    fs.remove(&path).expect("remove");
}

fn a_file_opened_for_reading_refuses_writes(fs: &dyn Fs, root: &Path) {
    let path = root.join("reading");
    fs.create(&path).expect("create").write_at(b"same", 0).expect("write_at");
    let file = fs.open_read(&path).expect("open_read");
    file.write_at(b"else", 0).expect_err("opened for reading");
    file.set_len(0).expect_err("opened for reading");
    file.zero(0..2).expect_err("opened for reading");
    file.allocate(0..9).expect_err("opened for reading");
    assert_eq!(content(&*file), b"same");
    fs.remove(&path).expect("remove");
}

fn a_removed_file_lives_on_for_those_who_hold_it(fs: &dyn Fs, root: &Path) {
    if cfg!(windows) {
        return;
    }
    let path = root.join("removed");
    let file = fs.create(&path).expect("create");
    file.write_at(&[5; 64], 0).expect("write_at");
    let region = file.map(64).expect("map");
    fs.remove(&path).expect("remove");
    fs.create(&path).expect("the name is free").write_at(&[6; 64], 0).expect("write_at");
    assert_word(&region, 3, [5; 8], "the new file shows in the old one's map");
    file.write_at(&[7; 8], 24).expect("write_at");
    file.sync_data().expect("sync_data");
    assert_word(&region, 3, [7; 8], "the removed file's map does not see a write");
    assert_eq!(content(&*fs.open(&path).expect("open")), [6; 64]);
    fs.remove(&path).expect("remove");
}

fn a_lock_has_one_holder_until_it_is_dropped(fs: &dyn Fs, root: &Path) {
    let path = root.join("LOCK");
    let held = fs.lock(&path).expect("lock makes the file");
    held.write_at(b"holder", 0).expect("write_at");
    assert_eq!(fs.lock(&path).expect_err("it is held").kind(), ErrorKind::WouldBlock);
    assert_eq!(fs.lock(&path).expect_err("it is still held").kind(), ErrorKind::WouldBlock);
    drop(held);
    let next = fs.lock(&path).expect("it was let go");
    assert_eq!(content(&*next), b"holder", "locking changed the file");
    drop(next);
    fs.remove(&path).expect("remove");
}

fn the_rest_answers(fs: &dyn Fs, root: &Path) {
    assert!(fs.free_space(root).expect("free_space") > 0);
    assert_ne!(fs.boot_id().expect("boot_id"), 0);
    assert_eq!(fs.boot_id().expect("boot_id"), fs.boot_id().expect("boot_id"));
    assert_ne!(fs.random(), fs.random());
}

fn names(fs: &dyn Fs, path: &Path) -> Vec<String> {
    let mut names = fs.list(path).expect("list");
    names.sort();
    names
}

/// The whole file, read in one go.
fn content(file: &dyn File) -> Vec<u8> {
    let mut bytes = vec![0; file.len().expect("len") as usize + 1];
    let read = file.read_at(&mut bytes, 0).expect("read_at");
    bytes.truncate(read);
    bytes
}

/// Asserts what a word of the region is.
fn assert_word(region: &Region, index: usize, expected: [u8; 8], otherwise: &str) {
    match region {
        // Relaxed: one thread.
        Region::Memory(words, _) => {
            assert_eq!(words[index].load(Ordering::Relaxed).to_ne_bytes(), expected, "{otherwise}");
        }
        Region::Mapped(map) => {
            if let Some(memory) = own_memory() {
                let mut found = [0; 8];
                memory.read_at(&mut found, map.as_ptr() as u64 + index as u64 * 8).expect("a mapped word");
                assert_eq!(found, expected, "{otherwise}");
            }
        }
    }
}

/// Stores a word through the region; false where a test cannot.
fn has_stored(region: &Region, index: usize, value: [u8; 8]) -> bool {
    match region {
        // Relaxed: one thread.
        Region::Memory(words, _) => words[index].store(u64::from_ne_bytes(value), Ordering::Relaxed),
        Region::Mapped(map) => {
            let Some(memory) = own_memory() else { return false };
            memory.write_at(&value, map.as_ptr() as u64 + index as u64 * 8).expect("a mapped word");
        }
    }
    true
}

/// This process's memory as a file, which looks into a mapping without `unsafe`; Linux has one.
fn own_memory() -> Option<Arc<dyn File>> {
    Disk.open(Path::new("/proc/self/mem")).ok()
}
