//! What the sources of the locked crates say: their features, the options of a builder, the texts
//! of errors, the releases.
//!
//! The pages in `src/reference/` have to be complete, so their tests compare them with this: a
//! new option of hyper turns a test red, which names it. It reads what cargo has unpacked and
//! knows anyway, so it needs neither the network nor a nightly toolchain.

mod releases;
mod texts;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::PathBuf;

use cargo_metadata::semver::{Version, VersionReq};
use proc_macro2::{TokenStream, TokenTree};
use syn::visit::{self, Visit};
use syn::{
    Attribute, Expr, ImplItem, Item, ItemImpl, Lit, Meta, ReceiverKind, ReturnType,
    Type, Visibility,
};

pub use releases::{Release, releases};
pub use texts::{Kind, Text};

/// A crate in the version of Cargo.lock.
pub struct Crate {
    pub name: String,
    pub version: Version,
    /// What each feature of the manifest turns on. `default` is one of them where there is one.
    pub features: BTreeMap<String, Vec<String>>,
    folder: PathBuf,
}

/// The crate that the lock file has for this requirement, `1` or `0.14`.
///
/// # Panics
///
/// If there is none.
pub fn locked(name: &str, requirement: &str) -> Crate {
    let requirement = VersionReq::parse(requirement).expect("a requirement of cargo");
    let package = harness::cargo::metadata()
        .packages
        .iter()
        .find(|it| *it.name == name && requirement.matches(&it.version));
    let package =
        package.unwrap_or_else(|| panic!("Cargo.lock has no {name} {requirement}"));
    Crate {
        name: name.to_owned(),
        version: package.version.clone(),
        features: package.features.clone(),
        folder: package.manifest_path.parent().expect("a folder").into(),
    }
}

/// A public method.
pub struct Method {
    pub name: String,
    /// Its documentation, as written.
    pub docs: String,
    pub deprecated: bool,
    /// Whether it sets something: it takes `self` and returns it, or `&mut self` and returns nothing.
    pub is_option: bool,
}

impl Crate {
    /// A file of the crate, `src/server/conn/http1.rs`.
    ///
    /// # Panics
    ///
    /// If the crate has no such file: a new release has moved it.
    pub fn text(&self, file: &str) -> String {
        fs::read_to_string(self.folder.join(file)).unwrap_or_else(|error| {
            panic!("{} {}: {file}: {error}", self.name, self.version)
        })
    }

    fn parse(&self, file: &str) -> syn::File {
        syn::parse_file(&self.text(file)).unwrap_or_else(|error| {
            panic!("{} {}: {file}: {error}", self.name, self.version)
        })
    }

    /// The files in `src/`, by their path in the crate.
    pub fn files(&self) -> Vec<String> {
        let mut folders = vec![PathBuf::from("src")];
        let mut files = Vec::new();
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(self.folder.join(&folder)).unwrap() {
                let path = folder.join(entry.unwrap().file_name());
                if self.folder.join(&path).is_dir() {
                    folders.push(path);
                } else if path.extension().is_some_and(|it| it == "rs") {
                    files.push(path.to_str().unwrap().replace('\\', "/"));
                }
            }
        }
        files.sort();
        files
    }

    /// The public methods of a type, in the order of this file. Those of its traits are not among them.
    ///
    /// # Panics
    ///
    /// If the file has no methods of this type.
    pub fn methods(&self, file: &str, of: &str) -> Vec<Method> {
        struct Methods<'a>(&'a str, Vec<Method>);
        impl<'ast> Visit<'ast> for Methods<'_> {
            fn visit_item(&mut self, item: &'ast Item) {
                if !is_test(attributes(item)) {
                    visit::visit_item(self, item);
                }
            }
            fn visit_item_impl(&mut self, item: &'ast ItemImpl) {
                if item.trait_.is_some()
                    || name_of(&item.self_ty) != Some(self.0.into())
                {
                    return;
                }
                for item in &item.items {
                    if let ImplItem::Fn(function) = item
                        && matches!(function.vis, Visibility::Public(_))
                    {
                        self.1.push(method(function, self.0));
                    }
                }
            }
        }
        let mut methods = Methods(of, Vec::new());
        methods.visit_file(&self.parse(file));
        assert!(
            !methods.1.is_empty(),
            "{} {}: {file} has no methods of {of}: a new release has moved them",
            self.name,
            self.version
        );
        methods.1
    }

    /// Each text that the crate may show to its user, with the place: tests, `ffi` and what is
    /// logged left out.
    pub fn texts(&self) -> Vec<Text> {
        let files = self.files().into_iter().filter(|file| !file.contains("/ffi/"));
        files.flat_map(|file| texts::texts(&file, &self.parse(&file))).collect()
    }

    /// Each string literal of the crate outside of tests: also those that [`Crate::texts`] cannot
    /// tell from others, such as a constant, or a `format!` whose result is stored.
    pub fn literals(&self) -> Vec<String> {
        let files = self.files().into_iter();
        files.flat_map(|file| texts::literals(&self.parse(&file))).collect()
    }

    /// The last part of each name: of modules, types, traits, functions, methods, variants,
    /// constants, of what is re-exported, and of the traits that are implemented and their types.
    pub fn names(&self) -> BTreeSet<String> {
        struct Names(BTreeSet<String>);
        impl<'ast> Visit<'ast> for Names {
            fn visit_ident(&mut self, ident: &'ast syn::Ident) {
                self.0.insert(ident.to_string());
            }
            fn visit_item(&mut self, item: &'ast Item) {
                match item {
                    _ if is_test(attributes(item)) => (),
                    Item::Use(item) => self.visit_use_tree(&item.tree),
                    Item::Fn(item) => self.visit_ident(&item.sig.ident),
                    Item::Struct(item) => self.visit_ident(&item.ident),
                    Item::Type(item) => self.visit_ident(&item.ident),
                    Item::Const(item) => self.visit_ident(&item.ident),
                    Item::Enum(item) => {
                        self.visit_ident(&item.ident);
                        for variant in &item.variants {
                            self.visit_ident(&variant.ident);
                        }
                    }
                    Item::Trait(item) => {
                        self.visit_ident(&item.ident);
                        for item in &item.items {
                            match item {
                                syn::TraitItem::Fn(item) => {
                                    self.visit_ident(&item.sig.ident)
                                }
                                syn::TraitItem::Type(item) => {
                                    self.visit_ident(&item.ident)
                                }
                                _ => (),
                            }
                        }
                    }
                    Item::Impl(item) => {
                        if let Some((path, _)) = &item.trait_ {
                            self.visit_path(path);
                        }
                        self.visit_type(&item.self_ty);
                        for item in &item.items {
                            if let ImplItem::Fn(item) = item {
                                self.visit_ident(&item.sig.ident);
                            }
                        }
                    }
                    Item::Mod(item) => {
                        self.visit_ident(&item.ident);
                        if let Some((_, items)) = &item.content {
                            items.iter().for_each(|item| self.visit_item(item));
                        }
                    }
                    Item::Macro(item) => self.tokens(&item.mac.tokens),
                    _ => (),
                }
            }
        }
        impl Names {
            /// Of a macro's words any may become a name.
            fn tokens(&mut self, tokens: &TokenStream) {
                for token in tokens.clone() {
                    match token {
                        TokenTree::Group(group) => self.tokens(&group.stream()),
                        TokenTree::Ident(ident) => self.visit_ident(&ident),
                        _ => (),
                    }
                }
            }
        }
        let mut names = Names([self.name.replace('-', "_")].into());
        for file in self.files() {
            names.visit_file(&self.parse(&file));
        }
        names.0
    }
}

fn method(function: &syn::ImplItemFn, of: &str) -> Method {
    let mut docs = String::new();
    for attribute in &function.attrs {
        if let Meta::NameValue(pair) = &attribute.meta
            && pair.path.is_ident("doc")
            && let Expr::Lit(text) = &pair.value
            && let Lit::Str(text) = &text.lit
        {
            docs += text.value().trim();
            docs.push('\n');
        }
    }
    Method {
        name: function.sig.ident.to_string(),
        docs,
        is_option: match (&function.sig.output, function.sig.receiver()) {
            (ReturnType::Default, Some(this)) => {
                matches!(this.kind, ReceiverKind::Reference(.., Some(_)))
            }
            (ReturnType::Type(_, ty), Some(_)) => {
                let ty = match &**ty {
                    Type::Reference(reference) => &reference.elem,
                    ty => ty,
                };
                name_of(ty).is_some_and(|name| name == "Self" || name == of)
            }
            _ => false,
        },
        deprecated: function.attrs.iter().any(|it| it.path().is_ident("deprecated")),
    }
}

/// The string literals among the tokens, with their lines.
fn strings(tokens: &TokenStream) -> Vec<(String, usize)> {
    let mut found = Vec::new();
    for token in tokens.clone() {
        match token {
            TokenTree::Group(group) => found.extend(strings(&group.stream())),
            TokenTree::Literal(literal) => {
                let line = literal.span().start().line;
                if let Lit::Str(text) = Lit::new(literal) {
                    found.push((text.value(), line));
                }
            }
            _ => (),
        }
    }
    found
}

/// The name of a type without its path and parameters.
fn name_of(ty: &Type) -> Option<String> {
    match ty {
        Type::Path(path) => Some(path.path.segments.last()?.ident.to_string()),
        _ => None,
    }
}

/// Whether this is compiled for tests alone.
fn is_test(attributes: &[Attribute]) -> bool {
    attributes.iter().any(|attribute| match &attribute.meta {
        Meta::Path(path) => path.segments.last().is_some_and(|it| it.ident == "test"),
        Meta::List(list) if list.path.is_ident("cfg") => list
            .tokens
            .to_string()
            .split(|c: char| !c.is_alphanumeric())
            .any(|it| it == "test"),
        _ => false,
    })
}

fn attributes(item: &Item) -> &[Attribute] {
    match item {
        Item::Const(item) => &item.attrs,
        Item::Enum(item) => &item.attrs,
        Item::Fn(item) => &item.attrs,
        Item::Impl(item) => &item.attrs,
        Item::Macro(item) => &item.attrs,
        Item::Mod(item) => &item.attrs,
        Item::Static(item) => &item.attrs,
        Item::Struct(item) => &item.attrs,
        Item::Trait(item) => &item.attrs,
        Item::Type(item) => &item.attrs,
        Item::Use(item) => &item.attrs,
        _ => &[],
    }
}
