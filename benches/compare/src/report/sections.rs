//! Sections of the document, by their titles: some are written by one command and left alone by another.

/// Where the section begins, at the line feed before its title, and where it ends.
fn span(document: &str, title: &str) -> Option<(usize, usize)> {
    let from = document.find(&format!("\n## {title}\n"))?;
    let inside = from + 1;
    let end = document[inside..].find("\n## ").map_or(document.len(), |at| inside + at);
    Some((from, end))
}

/// The section with its title, from the line feed before it to that before the next one.
pub fn whole(document: &str, title: &str) -> Option<String> {
    span(document, title).map(|(from, end)| document[from..end].to_owned())
}

/// The document with this section in the place of the one with the same title, or before the section `next`.
pub fn replaced(document: &str, title: &str, body: &str, next: &str) -> String {
    let (from, end) = span(document, title).unwrap_or_else(|| {
        let at = span(document, next).map_or(document.len(), |(from, _)| from);
        (at, at)
    });
    format!("{}\n## {title}\n\n{}\n{}", &document[..from], body.trim_end(), &document[end..])
}

#[cfg(test)]
mod tests {
    use super::*;

    const DOCUMENT: &str = "# D\n\nabout\n\n## One\n\n1\n\n## Two\n\n2\n\n## Three\n\n3\n";

    #[test]
    fn a_section_is_replaced_and_the_others_stay() {
        let after = replaced(DOCUMENT, "Two", "new\n\n### Part\n\nmore\n\n", "Three");
        assert_eq!(
            after,
            "# D\n\nabout\n\n## One\n\n1\n\n## Two\n\nnew\n\n### Part\n\nmore\n\n## Three\n\n3\n"
        );
        assert_eq!(replaced(&after, "Two", "2", "Three"), DOCUMENT);
        assert_eq!(replaced(DOCUMENT, "Three", "3\n", ""), DOCUMENT);
    }

    #[test]
    fn a_new_section_goes_before_the_one_that_is_named() {
        let after = replaced("# D\n\n## Two\n\n2\n", "One", "1", "Two");
        assert_eq!(after, "# D\n\n## One\n\n1\n\n## Two\n\n2\n");
        assert_eq!(whole(&after, "One").unwrap(), "\n## One\n\n1\n");
        assert_eq!(whole(&after, "Twice"), None);
    }
}
