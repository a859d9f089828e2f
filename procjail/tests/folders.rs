//! The order of the folders below `src`, as docs/architecture.md has it: none uses one that comes after it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use syn::visit::{self, Visit};
use syn::{Attribute, Item, UseTree};

/// The folders and files in the table of docs/architecture.md, the ground first.
fn order() -> Vec<String> {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/architecture.md");
    let page = fs::read_to_string(page).expect("the page");
    let rows = page
        .lines()
        .filter_map(|line| line.strip_prefix("| `procjail/src/"));
    rows.filter_map(|row| Some(row.split_once('`')?.0.trim_end_matches(".rs").to_owned()))
        .collect()
}

/// What a file uses of the crate, outside of its tests.
#[derive(Default)]
struct Uses(BTreeSet<String>);

impl Uses {
    fn of(source: &str) -> BTreeSet<String> {
        let file = syn::parse_file(source).expect("Rust");
        let mut uses = Uses::default();
        uses.visit_file(&file);
        uses.0
    }

    /// The names below `crate` in a tree of imports.
    fn tree(&mut self, tree: &UseTree) {
        match tree {
            UseTree::Path(path) => _ = self.0.insert(path.ident.to_string()),
            UseTree::Name(name) => _ = self.0.insert(name.ident.to_string()),
            UseTree::Rename(rename) => _ = self.0.insert(rename.ident.to_string()),
            UseTree::Group(group) => group.items.iter().for_each(|tree| self.tree(tree)),
            UseTree::Glob(_) => panic!("use crate::* hides what is used"),
        }
    }
}

impl Visit<'_> for Uses {
    fn visit_item(&mut self, item: &Item) {
        let attributes = match item {
            Item::Mod(item) => &item.attrs,
            Item::Fn(item) => &item.attrs,
            Item::Impl(item) => &item.attrs,
            Item::Use(item) => &item.attrs,
            _ => &Vec::new(),
        };
        if !attributes.iter().any(is_test) {
            visit::visit_item(self, item);
        }
    }

    fn visit_use_tree(&mut self, tree: &UseTree) {
        match tree {
            UseTree::Path(path) if path.ident == "crate" => self.tree(&path.tree),
            UseTree::Group(_) => visit::visit_use_tree(self, tree),
            _ => {}
        }
    }

    fn visit_path(&mut self, path: &syn::Path) {
        let mut segments = path.segments.iter();
        if segments.next().is_some_and(|first| first.ident == "crate")
            && let Some(second) = segments.next()
        {
            self.0.insert(second.ident.to_string());
        }
        visit::visit_path(self, path);
    }
}

fn is_test(attribute: &Attribute) -> bool {
    attribute.path().is_ident("test")
        || (attribute.path().is_ident("cfg")
            && attribute
                .parse_args::<syn::Path>()
                .is_ok_and(|path| path.is_ident("test")))
}

/// The files of one that is compiled for tests only are not there for anyone: `mod tests;` and the like.
fn test_modules(source: &str) -> BTreeSet<String> {
    let file = syn::parse_file(source).expect("Rust");
    let modules = file.items.iter().filter_map(|item| match item {
        Item::Mod(module) if module.attrs.iter().any(is_test) => Some(module.ident.to_string()),
        _ => None,
    });
    modules.collect()
}

/// All sources below a folder that are part of the program.
fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    let parent = fs::read_to_string(folder.join("mod.rs")).unwrap_or_default();
    let tests = test_modules(&parent);
    let mut entries: Vec<PathBuf> = fs::read_dir(folder)
        .expect("a folder")
        .map(|entry| entry.expect("an entry").path())
        .collect();
    entries.sort();
    for path in entries {
        let name = path
            .file_stem()
            .expect("a name")
            .to_string_lossy()
            .into_owned();
        if tests.contains(&name) {
            continue;
        }
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

#[test]
fn no_folder_uses_one_that_comes_after_it() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let order = order();
    let place: BTreeMap<&str, usize> = order.iter().map(String::as_str).zip(0..).collect();
    assert_eq!(place.len(), order.len(), "a folder is listed twice");
    let mut files = Vec::new();
    sources(&root, &mut files);
    let (mut wrong, mut seen) = (Vec::new(), BTreeSet::new());
    for path in files {
        let inside = path.strip_prefix(&root).expect("below src").to_owned();
        let top = inside.iter().next().expect("a name").to_string_lossy();
        let top = top.trim_end_matches(".rs").to_owned();
        if ["main", "lib"].contains(&top.as_str()) {
            continue;
        }
        let Some(own) = place.get(top.as_str()) else {
            wrong.push(format!("{top} is not in the table of docs/architecture.md"));
            continue;
        };
        let source = fs::read_to_string(&path).expect("a source");
        for used in Uses::of(&source) {
            match place.get(used.as_str()) {
                Some(other) if other > own => {
                    wrong.push(format!(
                        "{} uses {used}, which comes later",
                        inside.display()
                    ));
                }
                _ => {}
            }
        }
        seen.insert(top);
    }
    let gone = order.iter().filter(|name| !seen.contains(*name));
    wrong.extend(gone.map(|name| format!("there is no {name} any more")));
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_way_to_use_a_folder_is_seen() {
    let source = "
        use crate::{clock, event::{Task, What}, text as words};
        use crate::jail::Jail;
        #[cfg(test)]
        use crate::lab;
        fn f(task: &crate::kernel::Tracer) -> Vec<crate::leak::Seen> { crate::trace::open() }
        #[cfg(test)]
        mod tests { use crate::diagnose::Case; }
        #[test]
        fn t() { crate::render::x(); }
    ";
    let found: Vec<String> = Uses::of(source).into_iter().collect();
    let expected = ["clock", "event", "jail", "kernel", "leak", "text", "trace"];
    assert_eq!(found, expected);
    assert_eq!(test_modules("#[cfg(test)] mod a; mod b;").len(), 1);
}
