//! The numbers that the pages promise, read from their sentences.

use crate::the_book;

/// What a page says: `page("server/echo")` is `src/server/echo.md`.
#[track_caller]
pub fn page(name: &str) -> Prose {
    let path = format!("src/{name}.md");
    let page = the_book().pages.iter().find(|page| page.path == path);
    let page = page.unwrap_or_else(|| panic!("the book has no page {path}"));
    Prose { prose: book::Prose::of(page), path }
}

/// The sentences of a page.
pub struct Prose {
    path: String,
    prose: book::Prose,
}

impl Prose {
    /// The number at the `{}` of this sentence: digits, or a word from two to twenty.
    ///
    /// # Panics
    ///
    /// If the page says no such thing.
    #[track_caller]
    pub fn number(&self, sentence: &str) -> u64 {
        let [number] = self.numbers(sentence);
        number
    }

    /// The numbers at the `{}` of this sentence.
    #[track_caller]
    pub fn numbers<const N: usize>(&self, sentence: &str) -> [u64; N] {
        let numbers = self.prose.find(sentence).unwrap_or_else(|| {
            panic!(
                "{} no longer says `{sentence}`: change this test with the page",
                self.path
            )
        });
        let numbers: Vec<u64> =
            numbers.into_iter().map(|(number, _)| number).collect();
        numbers.try_into().expect("as many {} as numbers")
    }

    /// That the page says this, where a test relies on words alone.
    #[track_caller]
    pub fn says(&self, sentence: &str) {
        self.numbers::<0>(sentence);
    }
}
