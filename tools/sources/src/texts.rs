//! The texts of errors and panics.

use syn::visit::{self, Visit};
use syn::{
    Expr, ExprCall, ExprMethodCall, ImplItemFn, Item, ItemImpl, Lit, LitStr, Macro,
    Path,
};

use crate::{attributes, is_test, strings};

/// A string literal that may become part of a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Text {
    /// The literal, with the `{}` of a format string.
    pub text: String,
    /// The path in the crate.
    pub file: String,
    pub line: usize,
    pub kind: Kind,
}

/// Where a text stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    /// In an implementation of `Display`, or in a function `description`.
    Description,
    /// In `panic!`, `unreachable!` or an assertion.
    Panic,
    /// In `.expect("…")`: in hyper, what cannot happen.
    Expect,
    /// In the arguments of a call: the last two parts of the function's path, `Error::new`, or
    /// the name of the method, `with`. `"…".into()` is one, too.
    Argument(String),
}

pub(crate) fn texts(file: &str, parsed: &syn::File) -> Vec<Text> {
    let mut texts = Texts { file, describes: false, found: Vec::new() };
    texts.visit_file(parsed);
    texts.found
}

struct Texts<'a> {
    file: &'a str,
    describes: bool,
    found: Vec<Text>,
}

impl Texts<'_> {
    fn add(&mut self, text: String, line: usize, kind: Kind) {
        self.found.push(Text { text, file: self.file.to_owned(), line, kind });
    }

    fn arguments<'a>(&mut self, of: &str, arguments: impl Iterator<Item = &'a Expr>) {
        if self.describes {
            return;
        }
        for argument in arguments {
            if let Some(text) = literal(argument) {
                let kind = match of {
                    "expect" => Kind::Expect,
                    _ => Kind::Argument(of.to_owned()),
                };
                self.add(text.value(), text.span().start().line, kind);
            }
        }
    }
}

impl<'ast> Visit<'ast> for Texts<'_> {
    fn visit_item(&mut self, item: &'ast Item) {
        if !is_test(attributes(item)) {
            visit::visit_item(self, item);
        }
    }

    fn visit_item_impl(&mut self, item: &'ast ItemImpl) {
        let last = |path: &Path| path.segments.last().map(|it| it.ident.to_string());
        let name = item.trait_.as_ref().and_then(|(path, _)| last(path));
        if name.as_deref() == Some("Debug") {
            return;
        }
        self.describes = name.as_deref() == Some("Display");
        visit::visit_item_impl(self, item);
        self.describes = false;
    }

    fn visit_impl_item_fn(&mut self, function: &'ast ImplItemFn) {
        if is_test(&function.attrs) {
            return;
        }
        let before = self.describes;
        self.describes |= function.sig.ident == "description";
        visit::visit_impl_item_fn(self, function);
        self.describes = before;
    }

    fn visit_lit_str(&mut self, text: &'ast LitStr) {
        if self.describes {
            self.add(text.value(), text.span().start().line, Kind::Description);
        }
    }

    // The text of an attribute is no message.
    fn visit_attribute(&mut self, _: &'ast syn::Attribute) {}

    fn visit_macro(&mut self, of: &'ast Macro) {
        let name = of.path.segments.last().map(|it| it.ident.to_string());
        let panics = [
            "panic",
            "unreachable",
            "unimplemented",
            "todo",
            "assert",
            "assert_eq",
            "assert_ne",
        ];
        let texts = strings(&of.tokens);
        if name.is_some_and(|name| panics.contains(&&*name)) {
            for (text, line) in texts.into_iter().take(1) {
                self.add(text, line, Kind::Panic);
            }
        } else if self.describes {
            for (text, line) in texts {
                self.add(text, line, Kind::Description);
            }
        }
    }

    fn visit_expr_call(&mut self, call: &'ast ExprCall) {
        if let Expr::Path(function) = &*call.func {
            let parts: Vec<_> = function
                .path
                .segments
                .iter()
                .map(|it| it.ident.to_string())
                .collect();
            let of = parts[parts.len().saturating_sub(2)..].join("::");
            self.arguments(&of, call.args.iter());
        }
        visit::visit_expr_call(self, call);
    }

    fn visit_expr_method_call(&mut self, call: &'ast ExprMethodCall) {
        let of = call.method.to_string();
        let receiver = std::iter::once(&*call.receiver);
        self.arguments(&of, receiver.chain(call.args.iter()));
        visit::visit_expr_method_call(self, call);
    }
}

/// Each string literal of a file, wherever it stands, but not those of tests and attributes.
pub(crate) fn literals(parsed: &syn::File) -> Vec<String> {
    let mut literals = Literals(Vec::new());
    literals.visit_file(parsed);
    literals.0
}

struct Literals(Vec<String>);

impl<'ast> Visit<'ast> for Literals {
    fn visit_item(&mut self, item: &'ast Item) {
        if !is_test(attributes(item)) {
            visit::visit_item(self, item);
        }
    }

    fn visit_impl_item_fn(&mut self, function: &'ast ImplItemFn) {
        if !is_test(&function.attrs) {
            visit::visit_impl_item_fn(self, function);
        }
    }

    fn visit_lit_str(&mut self, text: &'ast LitStr) {
        self.0.push(text.value());
    }

    fn visit_macro(&mut self, of: &'ast Macro) {
        self.0.extend(strings(&of.tokens).into_iter().map(|(text, _)| text));
    }

    fn visit_attribute(&mut self, _: &'ast syn::Attribute) {}
}

fn literal(expression: &Expr) -> Option<&LitStr> {
    match expression {
        Expr::Lit(literal) => match &literal.lit {
            Lit::Str(text) => Some(text),
            _ => None,
        },
        Expr::Reference(reference) => literal(&reference.expr),
        _ => None,
    }
}
