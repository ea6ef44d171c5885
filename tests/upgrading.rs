//! The index of the names of hyper 0.14 is whole: each public item of hyper 0.14 stands on
//! `src/upgrading/names.md`, and the page names nothing that hyper 0.14 does not have.
//!
//! The items come from the sources that Cargo.lock locks. They are what a program can name with
//! the features `full` and `backports`: modules, types, traits, functions, and their methods,
//! variants and public fields. Of the traits that a type implements, those count that a program
//! calls or writes down (`impl Stream`), not those that nearly every type has (`impl Debug`).
//!
//! On the page, the heading `hyper::server` opens a module, and `Builder` in `hyper::server` a
//! type of it. The first column of a table holds names of the module or the type above it.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use cargo_metadata::MetadataCommand;
use proc_macro2::Span;
use regex::Regex;
use syn::punctuated::Punctuated;
use syn::spanned::Spanned;
use syn::{
    Attribute, Expr, ExprLit, Field, File, Ident, ImplItem, Item, ItemImpl, Lit,
    Meta, Token, TraitItem, Type, UseTree, Visibility,
};

const PAGE: &str = "src/upgrading/names.md";

/// Traits whose implementations need no row: nearly every type, or every error, has them. hyper
/// imports the trait of errors as `StdError`.
const COMMON_TRAITS: [&str; 13] = [
    "Clone",
    "Copy",
    "Debug",
    "Display",
    "Drop",
    "Eq",
    "Error",
    "Hash",
    "Ord",
    "PartialEq",
    "PartialOrd",
    "StdError",
    "Unpin",
];

#[test]
fn the_index_names_all_of_hyper_0_14_and_nothing_else() {
    let hyper = public_items();
    let (page, mut defects) = named();
    for (path, item) in &hyper {
        if !page.contains_key(path) {
            let feature =
                if item.backports { " behind the feature `backports`" } else { "" };
            defects.push(format!(
                "{PAGE}: hyper 0.14 has `{path}`{feature} ({}): {}",
                item.place,
                mend(&hyper, path)
            ));
        }
    }
    for (path, line) in &page {
        if !hyper.contains_key(path) {
            defects.push(format!(
                "{PAGE}:{line}: hyper 0.14 has no `{path}`: mend the name, or the heading that it stands under, or remove it"
            ));
        }
    }
    assert!(defects.is_empty(), "\n{}", defects.join("\n"));
}

/// What to write on the page for an item that is missing there.
fn mend(hyper: &BTreeMap<String, PublicItem>, path: &str) -> String {
    let (parent, name) = path.rsplit_once("::").unwrap_or(("", path));
    match hyper.get(parent) {
        _ if hyper[path].kind == Kind::Module => {
            format!("add the heading \"## `{path}`\"")
        }
        Some(item) if item.kind == Kind::Item => {
            let (module, item) = parent.rsplit_once("::").unwrap();
            format!(
                "add a row for `{name}` to the table under \"### `{item}` in `{module}`\""
            )
        }
        _ => format!(
            "add a row for `{name}` to the table under \"## `{parent}`\", or the heading \"### `{name}` in `{parent}`\""
        ),
    }
}

/// The names on the page by path, each with its line; and what is wrong with the page itself.
fn named() -> (BTreeMap<String, usize>, Vec<String>) {
    let text =
        fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(PAGE)).unwrap();
    let module_heading = Regex::new("^## `([^`]+)`$").unwrap();
    let type_heading = Regex::new("^### `([^`]+)` in `([^`]+)`$").unwrap();
    let row = Regex::new(r"^\| (`.+?`) \| (.*)\|$").unwrap();
    let code = Regex::new("`([^`]+)`").unwrap();

    let (mut module, mut above) = (String::new(), String::new());
    let (mut names, mut defects) = (BTreeMap::new(), Vec::new());
    for (line, text) in (1..).zip(text.lines()) {
        let mut found = Vec::new();
        if let Some(heading) = module_heading.captures(text) {
            module = heading[1].to_owned();
            above.clone_from(&module);
            found.push(module.clone());
        } else if let Some(heading) = type_heading.captures(text) {
            if heading[2] != module {
                defects.push(format!(
                    "{PAGE}:{line}: this heading stands under \"## `{module}`\": move it to \"## `{}`\"",
                    &heading[2]
                ));
            }
            above = format!("{}::{}", &heading[2], &heading[1]);
            found.push(above.clone());
        } else if text.starts_with("##") {
            defects.push(format!(
                "{PAGE}:{line}: a heading here is \"## `hyper::MODULE`\" or \"### `TYPE` in `hyper::MODULE`\": mend it"
            ));
        } else if let Some(row) = row.captures(text) {
            if row[2].split('|').any(|cell| cell.trim().is_empty()) {
                defects.push(format!(
                    "{PAGE}:{line}: an empty cell: say what takes the place of the name, or that it is gone and what to do"
                ));
            }
            let codes = code.captures_iter(&row[1]);
            found.extend(codes.map(|name| format!("{above}::{}", &name[1])));
        }
        for path in found {
            if let Some(first) = names.insert(path.clone(), line) {
                defects.push(format!(
                    "{PAGE}:{line}: line {first} is about `{path}` too: keep one"
                ));
            }
        }
    }
    (names, defects)
}

/// An item that a program can name.
struct PublicItem {
    /// `hyper-0.14.32/src/server/server.rs:57`
    place: String,
    kind: Kind,
    backports: bool,
}

#[derive(PartialEq, Eq)]
enum Kind {
    Module,
    Item,
}

/// The public items of hyper 0.14 by path: `hyper::server::Builder`, `hyper::server::Builder::new`.
fn public_items() -> BTreeMap<String, PublicItem> {
    let sources = Sources::locked();
    let mut names = BTreeMap::new();
    let root = vec!["hyper".to_owned()];
    sources.publish(&root, "hyper", false, &mut names);
    let place = format!("{}:1", sources.0[&root].file);
    let item = PublicItem { place, kind: Kind::Module, backports: false };
    names.insert("hyper".to_owned(), (root, item));

    // An item with several paths has its members under the longest: `hyper::body::Body`.
    let mut longest: BTreeMap<&Definition, &str> = BTreeMap::new();
    for (path, (definition, _)) in &names {
        let known = longest.entry(definition).or_insert(path);
        if path.matches("::").count() > known.matches("::").count() {
            *known = path;
        }
    }
    let implementations = sources.implementations();
    let mut members = Vec::new();
    for (definition, path) in longest {
        let backports = names[path].1.backports;
        let implementations = implementations.get(definition).into_iter().flatten();
        let implemented =
            implementations.flat_map(|(file, item)| implemented(file, item));
        for (name, place) in sources.parts(definition).into_iter().chain(implemented)
        {
            let item = PublicItem { place, kind: Kind::Item, backports };
            members.push((format!("{path}::{name}"), item));
        }
    }
    names.into_iter().map(|(path, (_, item))| (path, item)).chain(members).collect()
}

/// A module or an item by where it is defined: `["hyper", "server", "server", "Builder"]`.
type Definition = Vec<String>;

/// Parsed crates: their modules, private ones too, by definition.
#[derive(Default)]
struct Sources(BTreeMap<Definition, Module>);

struct Module {
    /// `hyper-0.14.32/src/server/mod.rs`
    file: String,
    /// Without what the features leave out, and with what stands inside of macros.
    items: Vec<Item>,
}

impl Sources {
    /// hyper 0.14, and the crates whose traits it hands on as its own.
    fn locked() -> Sources {
        // Cargo has not downloaded what other platforms need.
        let rustc = Command::new("rustc").arg("-vV").output().unwrap();
        let version = String::from_utf8(rustc.stdout).unwrap();
        let host =
            version.lines().find_map(|line| line.strip_prefix("host: ")).unwrap();
        let options = ["--locked", "--offline", "--filter-platform", host];
        let metadata = MetadataCommand::new()
            .current_dir(env!("CARGO_MANIFEST_DIR"))
            .other_options(options.map(str::to_owned))
            .exec()
            .unwrap_or_else(|error| panic!("{error}"));
        let mut sources = Sources::default();
        for (name, major) in
            [("hyper", "0.14."), ("http-body", "0.4."), ("tower-service", "0.3.")]
        {
            let mut packages = metadata.packages.iter();
            let package = packages.find(|package| {
                package.name == name && package.version.to_string().starts_with(major)
            });
            let package = package.unwrap_or_else(|| {
                panic!("Cargo.lock has no {name} {major}x: snippets/upgrading/hyper_014 must depend on hyper 0.14")
            });
            let root = package.manifest_path.parent().unwrap();
            sources.read(
                root.as_std_path(),
                Path::new("src/lib.rs"),
                &[name.replace('-', "_")],
            );
        }
        sources
    }

    fn read(&mut self, root: &Path, file: &Path, module: &[String]) {
        let path = root.join(file);
        let parsed =
            fs::read_to_string(&path).map_err(|error| error.to_string()).and_then(
                |text| syn::parse_file(&text).map_err(|error| error.to_string()),
            );
        match parsed {
            Ok(parsed) => self.add(root, file, module, parsed.items),
            Err(error) => panic!("{}: {error}", path.display()),
        }
    }

    fn add(&mut self, root: &Path, file: &Path, module: &[String], items: Vec<Item>) {
        let items = enabled(items);
        for item in &items {
            let Item::Mod(inner) = item else { continue };
            let name = inner.ident.to_string();
            let module = joined(module, &name);
            match &inner.content {
                Some((_, items)) => self.add(root, file, &module, items.clone()),
                None => self.read(root, &file_of(root, file, &name), &module),
            }
        }
        let file = Path::new(root.file_name().unwrap()).join(file);
        let module_of = Module { file: file.display().to_string(), items };
        self.0.insert(module.to_vec(), module_of);
    }

    /// The names that programs see in a module, which they know as `public`, and all below it.
    fn publish(
        &self,
        module: &[String],
        public: &str,
        backports: bool,
        names: &mut BTreeMap<String, (Definition, PublicItem)>,
    ) {
        let Module { file, items } = &self.0[module];
        for item in items {
            let (attrs, vis, ident) = head(item);
            if !matches!(vis, Some(Visibility::Public(_))) || is_hidden(attrs) {
                continue;
            }
            let backports = backports || is_backport(attrs);
            let mut exports = Vec::new();
            if let Some(ident) = ident {
                exports.push((joined(module, &ident.to_string()), ident.to_string()));
            }
            if let Item::Use(item) = item {
                for (path, name) in leaves(&item.tree) {
                    let definition = self.resolve(module, &path);
                    match name {
                        Some(name) => exports.push((definition, name)),
                        None => self.publish(&definition, public, backports, names),
                    }
                }
            }
            for (definition, name) in exports {
                let path = format!("{public}::{name}");
                let mut kind = Kind::Item;
                if self.0.contains_key(&definition) {
                    kind = Kind::Module;
                    self.publish(&definition, &path, backports, names);
                }
                let place = place(file, item.span());
                names.insert(
                    path,
                    (definition, PublicItem { place, kind, backports }),
                );
            }
        }
    }

    /// What a path means in a module. A path into a crate that is not read stays as it is.
    fn resolve(&self, module: &[String], path: &[String]) -> Definition {
        let (first, rest) = path.split_first().unwrap();
        let mut found = match first.as_str() {
            "crate" => module[..1].to_vec(),
            "self" => module.to_vec(),
            "super" => module[..module.len() - 1].to_vec(),
            name => {
                self.member(module, name).unwrap_or_else(|| vec![name.to_owned()])
            }
        };
        for name in rest {
            found = match name.as_str() {
                "super" => found[..found.len() - 1].to_vec(),
                name => {
                    self.member(&found, name).unwrap_or_else(|| joined(&found, name))
                }
            };
        }
        found
    }

    /// What a name means in a module: something defined there, or imported.
    fn member(&self, module: &[String], name: &str) -> Option<Definition> {
        let items = &self.0.get(module)?.items;
        if items.iter().any(|item| head(item).2.is_some_and(|ident| ident == name)) {
            return Some(joined(module, name));
        }
        let imports = items.iter().filter_map(|item| match item {
            Item::Use(item) => Some(leaves(&item.tree)),
            _ => None,
        });
        imports.flatten().find_map(|(path, called)| match called {
            // `use http;` is about the crate.
            Some(called) if called == name && path == [name] => Some(path),
            Some(called) if called == name => Some(self.resolve(module, &path)),
            Some(_) => None,
            None => self.member(&self.resolve(module, &path), name),
        })
    }

    /// The implementations for each type of these crates, with the file of each.
    fn implementations(&self) -> BTreeMap<Definition, Vec<(&str, &ItemImpl)>> {
        let mut found = BTreeMap::<_, Vec<_>>::new();
        for (module, Module { file, items }) in &self.0 {
            for item in items {
                if let Item::Impl(item) = item
                    && let Type::Path(target) = &*item.self_ty
                {
                    let definition = self.resolve(module, &segments(&target.path));
                    if self.0.contains_key(&definition[..definition.len() - 1]) {
                        found.entry(definition).or_default().push((&**file, item));
                    }
                }
            }
        }
        found
    }

    /// Variants, public fields, and what a trait holds, each with its place.
    fn parts(&self, definition: &[String]) -> Vec<(String, String)> {
        let (name, module) = definition.split_last().unwrap();
        let Some(Module { file, items }) = self.0.get(module) else {
            return Vec::new();
        };
        let defined =
            items.iter().find(|item| head(item).2.is_some_and(|ident| ident == name));
        let parts: Vec<(&[Attribute], &Ident)> = match defined {
            Some(Item::Struct(item)) => {
                let public =
                    |field: &&Field| matches!(field.vis, Visibility::Public(_));
                let fields = item.fields.iter().filter(public);
                fields
                    .filter_map(|field| Some((&*field.attrs, field.ident.as_ref()?)))
                    .collect()
            }
            Some(Item::Enum(item)) => item
                .variants
                .iter()
                .map(|variant| (&*variant.attrs, &variant.ident))
                .collect(),
            Some(Item::Trait(item)) => {
                let held = item.items.iter().filter_map(|item| match item {
                    TraitItem::Const(item) => Some((&*item.attrs, &item.ident)),
                    TraitItem::Fn(item) => Some((&*item.attrs, &item.sig.ident)),
                    TraitItem::Type(item) => Some((&*item.attrs, &item.ident)),
                    _ => None,
                });
                held.collect()
            }
            _ => Vec::new(),
        };
        let parts = parts.into_iter().filter(|(attrs, _)| is_named(attrs));
        parts
            .map(|(_, ident)| (ident.to_string(), place(file, ident.span())))
            .collect()
    }
}

/// The public methods of an `impl`, or the trait that it implements, each with its place.
fn implemented(file: &str, item: &ItemImpl) -> Vec<(String, String)> {
    if !is_named(&item.attrs) {
        return Vec::new();
    }
    if let Some((implemented, _)) = &item.trait_ {
        let name = segments(implemented).pop().unwrap();
        if COMMON_TRAITS.contains(&&*name) {
            return Vec::new();
        }
        return vec![(format!("impl {name}"), place(file, item.span()))];
    }
    let methods = item.items.iter().filter_map(|item| match item {
        ImplItem::Const(item) => Some((&item.attrs, &item.vis, &item.ident)),
        ImplItem::Fn(item) => Some((&item.attrs, &item.vis, &item.sig.ident)),
        _ => None,
    });
    methods
        .filter(|(attrs, vis, _)| {
            is_named(attrs) && matches!(vis, Visibility::Public(_))
        })
        .map(|(_, _, ident)| (ident.to_string(), place(file, ident.span())))
        .collect()
}

/// The items that the features enable, those inside of macros too.
fn enabled(items: Vec<Item>) -> Vec<Item> {
    let mut found = Vec::new();
    for item in items.into_iter().filter(|item| is_enabled(head(item).0)) {
        let Item::Macro(item) = item else {
            found.push(item);
            continue;
        };
        let name = segments(&item.mac.path).pop().unwrap();
        if name.starts_with("cfg_") || name == "pin_project" {
            let inner = syn::parse2::<File>(item.mac.tokens);
            let inner = inner.unwrap_or_else(|error| panic!("in {name}!: {error}"));
            // `cfg_feature! { #![feature = "client"] ... }`
            if inner.attrs.iter().all(|attribute| holds(&attribute.meta)) {
                found.extend(enabled(inner.items));
            }
        }
    }
    found
}

fn is_enabled(attrs: &[Attribute]) -> bool {
    predicates(attrs).all(|predicate| holds(&predicate))
}

/// Whether a predicate of cfg holds on Unix with the features `full` and `backports`.
fn holds(predicate: &Meta) -> bool {
    match predicate {
        Meta::Path(path) => path.is_ident("unix"),
        Meta::NameValue(pair) => {
            let Expr::Lit(ExprLit { lit: Lit::Str(value), .. }) = &pair.value else {
                panic!("a predicate of cfg compares with a string")
            };
            pair.path.is_ident("feature")
                && !["ffi", "nightly"].contains(&value.value().as_str())
        }
        Meta::List(list) => {
            let inner = Punctuated::<Meta, Token![,]>::parse_terminated;
            let inner = list.parse_args_with(inner).unwrap();
            match list.path.require_ident().unwrap().to_string().as_str() {
                "all" => inner.iter().all(holds),
                "any" => inner.iter().any(holds),
                "not" => !inner.iter().any(holds),
                unknown => panic!("this test does not know cfg({unknown}(...))"),
            }
        }
    }
}

fn predicates(attrs: &[Attribute]) -> impl Iterator<Item = Meta> {
    let cfgs = attrs.iter().filter(|attribute| attribute.path().is_ident("cfg"));
    cfgs.map(|attribute| attribute.parse_args().unwrap())
}

/// `#[cfg(all(feature = "backports", ...))]`
fn is_backport(attrs: &[Attribute]) -> bool {
    predicates(attrs).any(|predicate| match predicate {
        Meta::List(list) => list.tokens.to_string().contains("\"backports\""),
        _ => false,
    })
}

/// Whether programs can name what has these attributes.
fn is_named(attrs: &[Attribute]) -> bool {
    is_enabled(attrs) && !is_hidden(attrs)
}

/// `#[doc(hidden)]`
fn is_hidden(attrs: &[Attribute]) -> bool {
    attrs.iter().filter(|attribute| attribute.path().is_ident("doc")).any(
        |attribute| {
            attribute.parse_args::<Ident>().is_ok_and(|argument| argument == "hidden")
        },
    )
}

/// The attributes of an item, who may see it, and the name that it defines.
fn head(item: &Item) -> (&[Attribute], Option<&Visibility>, Option<&Ident>) {
    match item {
        Item::Const(item) => (&item.attrs, Some(&item.vis), Some(&item.ident)),
        Item::Enum(item) => (&item.attrs, Some(&item.vis), Some(&item.ident)),
        Item::Fn(item) => (&item.attrs, Some(&item.vis), Some(&item.sig.ident)),
        Item::Impl(item) => (&item.attrs, None, None),
        Item::Macro(item) => (&item.attrs, None, None),
        Item::Mod(item) => (&item.attrs, Some(&item.vis), Some(&item.ident)),
        Item::Static(item) => (&item.attrs, Some(&item.vis), Some(&item.ident)),
        Item::Struct(item) => (&item.attrs, Some(&item.vis), Some(&item.ident)),
        Item::Trait(item) => (&item.attrs, Some(&item.vis), Some(&item.ident)),
        Item::Type(item) => (&item.attrs, Some(&item.vis), Some(&item.ident)),
        Item::Use(item) => (&item.attrs, Some(&item.vis), None),
        _ => (&[], None, None),
    }
}

/// The paths that a `use` imports, and what each is called. A glob has no name.
fn leaves(tree: &UseTree) -> Vec<(Vec<String>, Option<String>)> {
    match tree {
        UseTree::Name(leaf) => {
            let name = leaf.ident.to_string();
            vec![(vec![name.clone()], Some(name))]
        }
        UseTree::Rename(leaf) => {
            vec![(vec![leaf.ident.to_string()], Some(leaf.rename.to_string()))]
        }
        UseTree::Glob(_) => vec![(Vec::new(), None)],
        UseTree::Group(group) => group.items.iter().flat_map(leaves).collect(),
        UseTree::Path(path) => {
            let first = path.ident.to_string();
            let mut found = leaves(&path.tree);
            for (path, name) in &mut found {
                // `use std::fmt::{self};`
                if path[..] == ["self"] {
                    path.clear();
                    name.get_or_insert_default().clone_from(&first);
                }
                path.insert(0, first.clone());
            }
            found
        }
    }
}

fn segments(path: &syn::Path) -> Vec<String> {
    path.segments.iter().map(|segment| segment.ident.to_string()).collect()
}

fn joined(path: &[String], name: &str) -> Definition {
    path.iter().cloned().chain([name.to_owned()]).collect()
}

fn place(file: &str, span: Span) -> String {
    format!("{file}:{}", span.start().line)
}

/// The file of `mod name;` in `file`.
fn file_of(root: &Path, file: &Path, name: &str) -> PathBuf {
    let folder = match file.file_stem() {
        Some(stem) if stem == "lib" || stem == "mod" => {
            file.parent().unwrap().to_owned()
        }
        _ => file.with_extension(""),
    };
    let beside = folder.join(name).with_extension("rs");
    if root.join(&beside).exists() {
        beside
    } else {
        folder.join(name).join("mod.rs")
    }
}
