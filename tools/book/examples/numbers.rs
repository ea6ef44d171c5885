fn main() {
    let root =
        std::path::Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).unwrap();
    match book::Book::read(root) {
        Ok(book) => {
            for d in book::numbers(root, &book) {
                println!("{d}")
            }
        }
        Err(defects) => {
            for d in defects {
                println!("{d}")
            }
        }
    }
}
