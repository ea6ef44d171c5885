//! Follows the pages along: `cargo run --bin follow-along`.
//!
//! Puts the dependencies that a page shows and its whole programs into an empty cargo project, and builds
//! it offline, with the versions of Cargo.lock and with warnings denied. The dependencies of a program are
//! the nearest `toml` block above it with a `[dependencies]` line, else that of the page above in the tree
//! (src/upgrading.md for src/upgrading/bodies.md), else that of Setup; and the blocks without such a line
//! that its page shows above it are added. What is written for hyper 0.14 is what readers already have.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::{Command, ExitCode};
use std::{env, fs};

use book::{Block, Book, Page, has_main};

const SETUP: &str = "src/init/setup.md";

fn main() -> ExitCode {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).unwrap();
    let book = Book::read(root).unwrap_or_else(|defects| {
        defects.iter().for_each(|defect| eprintln!("{defect}"));
        std::process::exit(1)
    });
    // The programs by the dependencies that their readers write: one project for each.
    let mut projects: BTreeMap<String, Vec<(&Page, &Block)>> = BTreeMap::new();
    for page in &book.pages {
        let mut seen = BTreeSet::new();
        // From below: the whole program stands below its parts.
        for block in page.blocks.iter().rev() {
            // A `[[test]]` asks for the program by its name, which is another one here.
            let whole = block.is_rust()
                && block.origin != page.path
                && has_main(&block.program);
            if whole
                && !block.origin.contains("/before/")
                && seen.insert(&block.origin)
            {
                let dependencies = dependencies(&book, page, block);
                projects.entry(dependencies).or_default().push((page, block));
            }
        }
    }
    let mut fail = false;
    for (index, (dependencies, programs)) in projects.iter().enumerate() {
        let project = root.join(format!("target/follow-along/{index}"));
        fs::remove_dir_all(&project).ok();
        fs::create_dir_all(project.join("src/bin")).unwrap();
        fs::copy(root.join("Cargo.lock"), project.join("Cargo.lock")).unwrap();
        let manifest = format!(
            "[package]\nname = \"reader\"\nedition = \"2024\"\n[lints.rust]\nwarnings = \"deny\"\n[workspace]\n{dependencies}"
        );
        fs::write(project.join("Cargo.toml"), manifest).unwrap();
        for (page, block) in programs {
            fs::write(
                project.join("src/bin").join(file(page, block)),
                &block.program,
            )
            .unwrap();
        }
        let cargo = Command::new(env::var_os("CARGO").unwrap_or("cargo".into()))
            .args(["check", "--offline", "--quiet", "--keep-going", "--target-dir"])
            .arg(root.join("target/follow-along/target"))
            // The tests in the programs, too.
            .args(
                dependencies
                    .contains("[dev-dependencies]")
                    .then_some("--all-targets"),
            )
            .current_dir(&project)
            .output()
            .expect("cargo can be started");
        let output = String::from_utf8_lossy(&cargo.stderr);
        for (page, block) in programs {
            let (path, origin) = (&page.path, &block.origin);
            if cargo.status.success() {
                println!("{path}: {origin} builds");
            } else if output.contains(&file(page, block)) {
                println!(
                    "{path}:{}: {origin} does not build, or warns, in a project with the dependencies that the page names: see below",
                    block.line
                );
            }
        }
        if !cargo.status.success() {
            eprintln!("{output}\nwith these dependencies:\n{dependencies}");
            fail = true;
        }
    }
    if fail { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

/// The file of a program in its project, `server_echo-echo.rs`.
fn file(page: &Page, block: &Block) -> String {
    let name = block.origin.rsplit('/').next().unwrap();
    format!("{}-{name}", page.name())
}

/// What the reader of this program writes into Cargo.toml.
fn dependencies(book: &Book, page: &Page, program: &Block) -> String {
    let mut added = String::new();
    let above = page.blocks.iter().rev().filter(|block| block.line < program.line);
    for block in above.filter(|block| block.fence == "toml") {
        if is_whole(block) {
            return block.text.clone() + &added;
        }
        added += &block.text;
    }
    let parent = format!("{}.md", page.path.rsplit_once('/').unwrap().0);
    let known = |path: &str| {
        let page = book.pages.iter().find(|page| page.path == path)?;
        page.blocks.iter().find(|block| block.fence == "toml" && is_whole(block))
    };
    let block = known(&parent).or_else(|| known(SETUP));
    block.expect("Setup shows dependencies").text.clone() + &added
}

fn is_whole(block: &Block) -> bool {
    block.text.lines().any(|line| line == "[dependencies]")
}
