//! Unit tests of the simulator: that it loses what a disk may lose, keeps what a disk must keep, and forks cleanly.

use std::collections::BTreeSet;

use super::*;
use crate::fs::conformance;

const ROOT: &str = "/";
const FILE: &str = "/file";
const NO_FILES: [&Path; 0] = [];

/// A machine without spontaneous write-back, so that a test can say what is unsynced.
fn quiet() -> Simulated {
    Simulated::new(1).without_write_back()
}

/// A file of so many bytes of 1, all durable.
fn with_durable_file(fs: &Simulated, len: usize) -> Arc<dyn File> {
    let file = fs.create(Path::new(FILE)).expect("create");
    file.write_at(&vec![1; len], 0).expect("write_at");
    file.sync_data().expect("sync_data");
    fs.sync_dir(Path::new(ROOT)).expect("sync_dir");
    assert_eq!(fs.unsynced(), [], "what was synced is listed as unsynced");
    file
}

/// Stores eight bytes as a program does through its map.
fn store(region: &Region, position: usize, value: [u8; 8]) {
    let Region::Memory(words, _) = region else { panic!("the simulator maps its own memory") };
    words[position / 8].store(u64::from_ne_bytes(value), RELAXED);
}

fn read(fs: &Simulated) -> Vec<u8> {
    fs.read_file(FILE).expect("the file is there")
}

#[test]
fn both_kinds_of_machine_do_what_every_file_system_must() {
    for fs in [Simulated::memory(), Simulated::new(3), quiet()] {
        fs.create_dir(Path::new("/data/dir")).expect("create_dir");
        conformance::check(&fs, Path::new("/data/dir"));
        conformance::check_unified_cache(&fs, Path::new("/data/dir"));
    }
}

#[test]
fn after_a_failed_sync_a_forgotten_cache_shows_what_the_medium_holds() {
    let lost = (0..20).filter(|seed| {
        let fs = Simulated::new(*seed).without_write_back();
        let file = with_durable_file(&fs, 4096);
        file.write_at(&[2; 4096], 0).expect("write_at");
        fs.fail(Fault::once(FaultKind::Eio).only(OpKind::SyncData));
        file.sync_data().expect_err("the sync was to fail");
        file.sync_data().expect("the next one says that all is well");
        assert_eq!(read(&fs), [2; 4096], "the cache still has what was written");
        file.forget_cache().expect("forget_cache");
        let medium = fs.crash(0).read_file(FILE).expect("the file is there");
        assert_eq!(read(&fs), medium, "what is read is not what the medium holds");
        medium != [2; 4096]
    });
    assert!(lost.count() > 0, "no failed sync lost anything");
}

#[test]
fn a_crash_keeps_what_was_synced_and_any_subset_of_the_sectors_that_were_not() {
    let fs = quiet();
    let file = with_durable_file(&fs, 4096);
    file.write_at(&[2; 6 * 512], 512).expect("write_at");
    assert_eq!(fs.unsynced().len(), 6);
    let mut seen = BTreeSet::new();
    for seed in 0..3_000 {
        let bytes = read(&fs.crash(seed));
        for (sector, bytes) in bytes.chunks(512).enumerate() {
            assert!(bytes.iter().all(|byte| *byte == bytes[0]), "seed {seed} tore sector {sector}");
        }
        let versions: Vec<u8> = bytes.chunks(512).map(|sector| sector[0]).collect();
        assert_eq!([versions[0], versions[7]], [1; 2], "seed {seed} lost synced bytes");
        seen.insert(versions);
    }
    assert_eq!(seen.len(), 64, "not every subset of 6 sectors was reached");
    assert_eq!(read(&fs), read(&fs.crash(1)), "seed 1 does not keep everything");
    assert_eq!(read(&fs.crash(0)), [1; 4096], "seed 0 does not take everything back");
}

#[test]
fn a_store_through_a_map_is_lost_until_it_was_synced() {
    let fs = quiet();
    let file = with_durable_file(&fs, 1 << 16);
    let region = file.map(1 << 16).expect("map");
    store(&region, 40_000, *b"through ");
    assert_eq!(fs.unsynced(), [Unsynced::Sector { path: FILE.into(), position: 39_936 }]);
    assert_eq!(read(&fs.crash(0)), [1; 1 << 16]);
    file.sync_data().expect("sync_data");
    assert_eq!(fs.unsynced(), []);
    assert_eq!(read(&fs.crash(0))[40_000..40_008], *b"through ");
}

#[test]
fn a_name_is_lost_until_its_directory_was_synced_and_takes_its_directory_along() {
    let fs = quiet();
    let (dir, path) = (Path::new("/dir"), Path::new("/dir/file"));
    fs.create_dir(dir).expect("create_dir");
    fs.create(path).expect("create").sync_data().expect("sync_data");
    fs.sync_dir(dir).expect("sync_dir");
    assert_eq!(fs.unsynced(), [Unsynced::Added { path: dir.into() }]);
    assert_eq!(fs.crash(0).list(dir).expect_err("lost with its name").kind(), io::ErrorKind::NotFound);
    fs.sync_dir(Path::new(ROOT)).expect("sync_dir");
    assert_eq!(fs.crash(0).files(), [path]);
    fs.remove_dir(dir).expect("remove_dir");
    assert_eq!(fs.files(), NO_FILES);
    assert_eq!(fs.crash(0).files(), [path], "the removal was durable without a sync");
    assert_eq!(fs.crash(1).files(), NO_FILES);
    fs.sync_dir(Path::new(ROOT)).expect("sync_dir");
    assert_eq!(fs.crash(0).files(), NO_FILES);
}

#[test]
fn a_rename_is_atomic_in_every_crash() {
    let fs = quiet();
    with_durable_file(&fs, 3);
    for version in [2, 3] {
        let next = fs.create(Path::new("/next")).expect("create");
        next.write_at(&[version; 3], 0).expect("write_at");
        next.sync_data().expect("sync_data");
        fs.rename(Path::new("/next"), Path::new(FILE)).expect("rename");
    }
    let unsynced = fs.unsynced().len();
    assert_eq!(unsynced, 4, "two files were added and renamed");
    let mut seen = BTreeSet::new();
    for subset in 0..1_u32 << unsynced {
        let crashed = fs.crash_keeping(|index| subset >> index & 1 == 1);
        let bytes = read(&crashed);
        assert!([[1; 3], [2; 3], [3; 3]].contains(&bytes[..].try_into().expect("3 bytes")), "{bytes:?}");
        seen.insert((bytes[0], crashed.files().len()));
    }
    assert_eq!(seen, BTreeSet::from([(1, 1), (1, 2), (2, 1), (2, 2), (3, 1), (3, 2)]));
}

#[test]
fn every_subset_of_what_is_unsynced_is_a_crash_of_its_own() {
    let fs = quiet();
    let file = with_durable_file(&fs, 2048);
    file.set_len(1536).expect("set_len");
    file.write_at(&[2; 1024], 0).expect("write_at");
    fs.rename(Path::new(FILE), Path::new("/other")).expect("rename");
    let unsynced = fs.unsynced();
    let (file, other) = (PathBuf::from(FILE), PathBuf::from("/other"));
    let expected = [
        Unsynced::Renamed { from: file, to: other.clone() },
        Unsynced::Length { path: other.clone() },
        Unsynced::Sector { path: other.clone(), position: 0 },
        Unsynced::Sector { path: other, position: 512 },
    ];
    assert_eq!(unsynced, expected);
    for subset in 0..1_u32 << unsynced.len() {
        let has = |index: usize| subset >> index & 1 == 1;
        let crashed = fs.crash_keeping(has);
        let mut expected = vec![1; if has(1) { 1536 } else { 2048 }];
        expected[..512].fill(if has(2) { 2 } else { 1 });
        expected[512..1024].fill(if has(3) { 2 } else { 1 });
        let path = if has(0) { "/other" } else { FILE };
        assert_eq!(crashed.files(), [Path::new(path)], "subset {subset:b}");
        assert!(crashed.read_file(path).expect("it is there") == expected, "subset {subset:b}");
        assert_eq!(crashed.unsynced(), [], "a crash left something unsynced");
    }
}

#[test]
fn a_length_that_is_lost_takes_the_bytes_behind_it() {
    let fs = quiet();
    let file = with_durable_file(&fs, 700);
    file.write_at(&[2; 1000], 600).expect("write_at");
    let all_but_length = |index: usize| fs.unsynced()[index] != Unsynced::Length { path: FILE.into() };
    let bytes = read(&fs.crash_keeping(all_but_length));
    assert_eq!(bytes.len(), 700);
    assert_eq!(bytes[600..], [2; 100]);
    let only_length = |index: usize| !all_but_length(index);
    let bytes = read(&fs.crash_keeping(only_length));
    assert_eq!(bytes.len(), 1600);
    assert_eq!(bytes[700..], [0; 900], "new bytes that were not written read as zeros");
    file.set_len(100).expect("set_len");
    file.sync_data().expect("sync_data");
    file.set_len(700).expect("set_len");
    assert_eq!(fs.unsynced(), [Unsynced::Length { path: FILE.into() }], "what was cut off is still on the medium");
}

#[test]
fn what_a_failed_sync_lost_is_not_brought_back_by_the_next() {
    let mut lost = 0;
    for seed in 0..50 {
        let fs = Simulated::new(seed).without_write_back();
        let file = with_durable_file(&fs, 4096);
        file.write_at(&[2; 4096], 0).expect("write_at");
        fs.fail(Fault::once(FaultKind::Eio).only(OpKind::SyncData).after(1));
        assert_eq!(file.sync_data().expect_err("the fault").raw_os_error(), cfg!(unix).then_some(5));
        file.sync_data().expect("the kernel takes everything for written");
        assert_eq!(fs.unsynced(), []);
        assert_eq!(read(&fs), [2; 4096], "the program still sees what it wrote");
        lost += read(&fs.crash(1)).chunks(512).filter(|sector| sector[0] == 1).count();
        file.write_at(&[3; 512], 0).expect("write_at");
        file.sync_data().expect("sync_data");
        assert_eq!(read(&fs.crash(0))[..512], [3; 512], "what was written after it is safe again");
    }
    assert!((50..350).contains(&lost), "of 400 sectors {lost} were lost");
}

#[test]
fn a_failed_directory_sync_may_or_may_not_have_done_it() {
    let mut seen = BTreeSet::new();
    for seed in 0..50 {
        let fs = Simulated::new(seed);
        for name in ["/a", "/b"] {
            fs.create(Path::new(name)).expect("create");
        }
        fs.fail(Fault::once(FaultKind::Eio));
        fs.sync_dir(Path::new(ROOT)).expect_err("the fault");
        seen.insert(fs.crash(0).files().len());
        fs.sync_dir(Path::new(ROOT)).expect("sync_dir");
        assert_eq!(fs.crash(0).files().len(), 2);
    }
    assert_eq!(seen, BTreeSet::from([0, 1, 2]));
}

#[test]
fn the_kernel_may_have_written_an_older_version_back() {
    let fs = Simulated::new(5);
    let file = with_durable_file(&fs, 512);
    let mut seen = BTreeSet::new();
    for version in 2..=200 {
        file.write_at(&[version; 512], 0).expect("write_at");
        seen.insert(read(&fs.crash(0))[0]);
    }
    assert!(seen.len() > 5, "a crash showed only the versions {seen:?}");
}

#[test]
fn a_killed_process_leaves_everything_but_its_locks_and_what_was_unsynced_still_is() {
    let fs = quiet();
    let file = with_durable_file(&fs, 512);
    let _lock = fs.lock(Path::new("/LOCK")).expect("lock");
    file.write_at(b"written", 0).expect("write_at");
    fs.fail(Fault::forever(FaultKind::Eio));
    let killed = fs.kill();
    assert_eq!(killed.read_file(FILE).expect("read"), read(&fs));
    assert_eq!(killed.unsynced(), fs.unsynced());
    assert_eq!(killed.boot_id().expect("boot_id"), fs.boot_id().expect("boot_id"));
    killed.lock(Path::new("/LOCK")).expect("the lock died with its process");
    let crashed = killed.crash(0);
    assert_eq!(read(&crashed), [1; 512]);
    assert_ne!(crashed.boot_id().expect("boot_id"), fs.boot_id().expect("boot_id"));
    assert_ne!(crashed.boot_id().expect("boot_id"), crashed.crash(0).boot_id().expect("boot_id"));
}

#[test]
fn a_fork_and_its_origin_do_not_see_each_other() {
    let fs = quiet();
    let file = with_durable_file(&fs, 8192);
    let forks = [fs.crash(0), fs.crash(1), fs.kill()];
    for (index, fork) in forks.iter().enumerate() {
        let forked = fork.open(Path::new(FILE)).expect("open");
        let region = forked.map(8192).expect("map");
        store(&region, 4096, [10 + index as u8; 8]);
        forked.sync_data().expect("sync_data");
    }
    assert_eq!(read(&fs), [1; 8192]);
    assert_eq!(read(&fs.crash(0)), [1; 8192]);
    file.write_at(&[9; 8192], 0).expect("write_at");
    file.sync_data().expect("sync_data");
    for (index, fork) in forks.iter().enumerate() {
        let bytes = read(&fork.crash(0));
        assert_eq!((bytes[0], bytes[4096], bytes[8191]), (1, 10 + index as u8, 1));
    }
}

#[test]
fn the_same_seed_gives_the_same_run() {
    let run = || {
        let fs = Simulated::new(11);
        let file = fs.create(Path::new(FILE)).expect("create");
        for round in 0..100 {
            file.write_at(&[round; 700], u64::from(round) * 300).expect("write_at");
        }
        let crashed = fs.crash(4);
        (fs.unsynced(), crashed.read_file(FILE).ok(), crashed.random(), fs.random(), fs.boot_id().expect("boot_id"))
    };
    assert_eq!(run(), run());
}

#[test]
fn the_hook_sees_every_mutating_operation_before_it_happens_and_may_crash_the_machine() {
    let fs = quiet();
    let seen: Arc<Mutex<Vec<(u64, OpKind, usize)>>> = Arc::default();
    let log = Arc::clone(&seen);
    fs.on_operation(move |fs, operation| {
        log.lock().push((operation.number, operation.kind, fs.crash(1).files().len()));
    });
    let file = with_durable_file(&fs, 10);
    file.len().expect("len");
    file.read_at(&mut [0; 4], 0).expect("read_at");
    fs.remove(Path::new(FILE)).expect("remove");
    let expected = [
        (0, OpKind::Create, 0),
        (1, OpKind::WriteAt, 1),
        (2, OpKind::SyncData, 1),
        (3, OpKind::SyncDir, 1),
        (4, OpKind::Remove, 1),
    ];
    assert_eq!(*seen.lock(), expected);
    assert_eq!(fs.operations(), 5);
    assert_eq!(fs.operations_of(OpKind::ReadAt), 1);
}

#[test]
fn a_fault_hits_what_it_says_as_often_as_it_says() {
    let fs = quiet();
    let file = with_durable_file(&fs, 8);
    let write = || file.write_at(b"x", 0).err().map(|error| error.kind());
    fs.fail(Fault::once(FaultKind::Enospc).after(fs.operations() + 1));
    assert_eq!([write(), write(), write()], [None, Some(io::ErrorKind::StorageFull), None]);
    fs.fail(Fault::forever(FaultKind::Enospc).only(OpKind::Allocate));
    assert_eq!(write(), None);
    file.allocate(0..9).expect_err("the fault");
    file.allocate(0..9).expect_err("the fault");
    fs.heal();
    file.allocate(0..9).expect("healed");
    fs.fail(Fault::once(FaultKind::Emfile).only(OpKind::Open).after(1));
    fs.open(Path::new(FILE)).expect("the first");
    let refusal = fs.open(Path::new(FILE)).expect_err("the second");
    assert_eq!(refusal.raw_os_error(), cfg!(unix).then_some(24));
    fs.open(Path::new(FILE)).expect("the third");
    fs.fail(Fault::forever(FaultKind::Eio));
    file.read_at(&mut [0; 4], 0).expect("a reading operation is hit only when it is named");
    file.set_len(0).expect_err("the fault");
    fs.create(Path::new("/new")).expect_err("the fault");
    assert_eq!((fs.files().len(), file.len().expect("len")), (1, 9), "a failed operation did something");
}

#[test]
fn a_short_write_leaves_a_beginning_of_what_was_to_be_written() {
    let mut seen = BTreeSet::new();
    for seed in 0..100 {
        let fs = Simulated::new(seed);
        let file = with_durable_file(&fs, 4);
        fs.fail(Fault::forever(FaultKind::ShortWrite));
        fs.create(Path::new("/other")).expect("only writes fall short");
        assert_eq!(file.write_at(b"2222", 2).expect_err("the fault").kind(), io::ErrorKind::StorageFull);
        seen.insert(String::from_utf8_lossy(&read(&fs)).into_owned());
    }
    let expected = ["\u{1}\u{1}\u{1}\u{1}", "\u{1}\u{1}2\u{1}", "\u{1}\u{1}22", "\u{1}\u{1}222", "\u{1}\u{1}2222"];
    assert_eq!(seen, expected.map(String::from).into());
}

#[test]
fn a_full_disk_refuses_what_makes_files_longer_and_nothing_else() {
    let fs = quiet();
    let file = with_durable_file(&fs, 1000);
    fs.set_capacity(1500);
    assert_eq!(fs.free_space(Path::new(ROOT)).expect("free_space"), 500);
    let full = |refused: io::Result<()>| assert_eq!(refused.expect_err("full").kind(), io::ErrorKind::StorageFull);
    full(file.set_len(1501));
    full(file.allocate(0..1501));
    full(file.write_at(&[1; 600], 901));
    assert_eq!(file.len().expect("len"), 1000);
    file.write_at(&[2; 1000], 0).expect("within the file");
    file.set_len(1500).expect("just enough");
    full(fs.create(Path::new("/other")).expect("a name takes no room").set_len(1));
    assert_eq!(fs.crash(0).free_space(Path::new(ROOT)).expect("free_space"), 500, "a crash changed the disk's size");
    fs.remove(Path::new(FILE)).expect("remove");
    assert_eq!(fs.free_space(Path::new(ROOT)).expect("free_space"), 1500);
}

#[test]
fn corruption_shows_through_maps_and_outlives_a_crash() {
    let fs = quiet();
    let region = with_durable_file(&fs, 1024).map(1024).expect("map");
    fs.corrupt(FILE, |bytes| bytes[512..520].fill(7)).expect("it is there");
    let Region::Memory(words, _) = &region else { panic!("the simulator maps its own memory") };
    assert_eq!(words[64].load(RELAXED).to_ne_bytes(), [7; 8]);
    assert_eq!(fs.unsynced(), []);
    assert_eq!(read(&fs.crash(0))[512..520], [7; 8]);
    fs.corrupt(FILE, |bytes| bytes.truncate(3)).expect("it is there");
    assert_eq!((read(&fs), read(&fs.crash(0))), (vec![1; 3], vec![1; 3]));
    assert_eq!(fs.corrupt("/none", |_| ()).expect_err("nothing is there").kind(), io::ErrorKind::NotFound);
}

#[test]
fn a_cut_freezes_the_machine_under_those_who_run_on_it() {
    let fs = quiet();
    let file = with_durable_file(&fs, 512);
    let region = file.map(512).expect("map");
    store(&region, 0, [2; 8]);
    fs.cut_power();
    store(&region, 0, [3; 8]);
    let eio =
        |result: io::Result<()>| assert_eq!(result.expect_err("no power").raw_os_error(), cfg!(unix).then_some(5));
    eio(file.sync_data());
    eio(file.read_at(&mut [0; 8], 0).map(drop));
    eio(file.len().map(drop));
    eio(fs.sync_dir(Path::new(ROOT)));
    eio(fs.list(Path::new(ROOT)).map(drop));
    assert_eq!(read(&fs.crash(0))[..8], [1; 8]);
    assert_eq!(read(&fs.crash(1))[..8], [2; 8], "a store after the cut reached the medium");
    assert_eq!(fs.unsynced().len(), 1);
}

#[test]
fn the_hook_may_cut_the_power_before_an_operation_happens() {
    let fs = quiet();
    fs.on_operation(|fs, operation| {
        if operation.kind == OpKind::SyncDir {
            fs.cut_power();
        }
    });
    fs.create(Path::new(FILE)).expect("create");
    fs.sync_dir(Path::new(ROOT)).expect_err("no power");
    assert_eq!(fs.crash(0).files(), NO_FILES);
}

#[test]
fn the_length_of_a_mapped_file_stays_what_it_is() {
    let fs = Simulated::memory();
    let file = fs.create(Path::new(FILE)).expect("create");
    file.set_len(100).expect("set_len");
    let region = file.map(50).expect("map");
    for len in [0, 99, 101] {
        assert_eq!(file.set_len(len).expect_err("it is mapped").kind(), io::ErrorKind::ResourceBusy);
    }
    file.set_len(100).expect("nothing to change");
    drop(region);
    file.set_len(99).expect("nobody has it mapped any more");
}

#[test]
fn what_is_forgotten_is_let_go() {
    for fs in [Simulated::memory(), quiet()] {
        for _ in 0..10 {
            fs.create_dir(Path::new("/a/b")).expect("create_dir");
            fs.create(Path::new("/a/b/one")).expect("create");
            fs.create(Path::new("/a/two")).expect("create");
            fs.rename(Path::new("/a/b/one"), Path::new("/a/b/two")).expect("rename");
            fs.remove_dir(Path::new("/a")).expect("remove_dir");
            fs.sync_dir(Path::new(ROOT)).expect("sync_dir");
        }
        assert_eq!(fs.0.tree.lock().files().len(), 0);
        assert_eq!(fs.0.tree.lock().all_paths().len(), 1);
        assert_eq!(fs.0.tree.lock().pending_total(), 0, "a directory that is gone has changes pending");
    }
}

#[test]
#[cfg(target_os = "linux")]
fn a_file_nobody_writes_to_takes_no_memory() {
    let resident_pages = || {
        let statm = crate::fs::disk::Disk.open_read(Path::new("/proc/self/statm")).expect("Linux has it");
        let mut text = [0; 200];
        let read = statm.read_at(&mut text, 0).expect("read_at");
        let text = String::from_utf8_lossy(&text[..read]).into_owned();
        text.split(' ').nth(1).and_then(|pages| pages.parse::<u64>().ok()).expect("the second number")
    };
    let fs = Simulated::memory();
    let before = resident_pages();
    let regions: Vec<Region> = (0..16)
        .map(|index| {
            let file = fs.create(Path::new(&format!("/{index}"))).expect("create");
            file.set_len(64 << 20).expect("set_len");
            file.allocate(0..64 << 20).expect("allocate");
            file.map(64 << 20).expect("map")
        })
        .collect();
    let grown = resident_pages().saturating_sub(before);
    assert!(grown < 1 << 16, "{} untouched files of 64 MiB took {grown} pages", regions.len());
}

#[test]
fn random_bytes_in_random_places_match_a_plain_vector_through_syncs_forks_and_crashes() {
    for seed in 0..200 {
        let mut random = Random::new(seed);
        let mut fs = Simulated::new(seed);
        let mut model = vec![1; 5000];
        let mut file = with_durable_file(&fs, 5000);
        for step in 0..60 {
            let at = random.below(model.len() as u64 + 1) as usize;
            let len = random.below(3000) as usize;
            match random.below(8) {
                0..3 => {
                    model.resize(model.len().max(at + len), 0);
                    model[at..at + len].fill(step);
                    file.write_at(&vec![step; len], at as u64).expect("write_at");
                }
                3 => {
                    let end = (at + len).min(model.len());
                    model[at..end].fill(0);
                    file.zero(at as u64..(at + len) as u64).expect("zero");
                }
                4 => {
                    model.resize(at, 0);
                    file.set_len(at as u64).expect("set_len");
                }
                5 => drop(file.map(model.len()).expect("map")),
                6 => {
                    file.sync_data().expect("sync_data");
                    fs = fs.crash(random.next());
                    file = fs.open(Path::new(FILE)).expect("open");
                }
                _ => {
                    fs = if random.chance(4) { fs.kill() } else { fs.crash(1) };
                    file = fs.open(Path::new(FILE)).expect("open");
                }
            }
            assert!(read(&fs) == model, "seed {seed} step {step}: the file is not what was written");
        }
    }
}
