use std::fmt::Write as _;

use proptest::prelude::*;

use crate::sealed::named::{Named, is_name, masked};

fn values(text: &str) -> Result<Vec<(String, String)>, String> {
    let wrong = |wrong: crate::sealed::named::Wrong| format!("{}: {}", wrong.line + 1, wrong.what);
    let file = Named::parse(text).map_err(wrong)?;
    let values = file.values().map_err(wrong)?;
    Ok(values.into_iter().map(|(name, value, _)| (name.to_string(), value.to_string())).collect())
}

#[test]
fn values_are_texts_as_they_are_written() {
    let text = "# first\na: 0123\nb: yes\n\nc: |\n  one\n\n  two\n# last\nd: \"x y\" # no part\ne: ~x\nf: 1.10\n";
    let expected = [("a", "0123"), ("b", "yes"), ("c", "one\n\ntwo\n"), ("d", "x y"), ("e", "~x"), ("f", "1.10")];
    assert_eq!(values(text).unwrap(), expected.map(|(name, value)| (name.to_string(), value.to_string())));
    assert_eq!(Named::parse(text).unwrap().text().as_str(), text);
}

#[test]
fn what_is_no_such_file_is_told_without_repeating_it() {
    let mut all = String::new();
    for text in [
        "  hush: 1\n",
        "hush\n",
        "- hush\n",
        "a: hush\na: hush\n",
        "a: [hush]\n",
        "a:\n  hush: 1\n",
        "a: \"hush\n",
        "a-b: hush\n",
        "---\na: b\n",
        "a: |\n  hush\n hush\n",
        "a: null\n",
        "a:\n",
        "a: &x hush\nb: *x\n",
        "a: !!binary hush\n",
    ] {
        let found = values(text);
        writeln!(all, "{text:?} {}", found.clone().err().unwrap_or_else(|| "is fine".into())).unwrap();
        assert!(found.is_ok() || !found.unwrap_err().contains("hush"), "{text}");
    }
    insta::assert_snapshot!(all);
}

#[test]
fn nothing_of_a_value_is_in_a_masked_file() {
    let text = "# why\na: hush\nb: |\n  hush: x\n  y\nhush hush\n";
    let masked = masked("x".into(), text);
    assert_eq!(masked.text, "# why\na: …\nb: …\n  …\n  …\n  …\n");
}

proptest! {
    #[test]
    fn whatever_is_set_comes_back_and_the_rest_stays(
        new in "(\\PC|[\n\t\r \u{85}\u{2028}\u{feff}\u{7f}\u{1}]){0,20}",
        name in "[a-z_][a-z0-9_]{0,8}",
    ) {
        prop_assume!(is_name(&name) && name != "kept" && name != "more");
        let before = "# a\nkept: |\n  x\n\n   y\n\nmore: 1";
        let mut file = Named::parse(before).unwrap();
        file.set(&name, &new);
        let text = file.text().to_string();
        prop_assert!(text.starts_with(before), "{text:?}");
        let read = values(&text).map_err(TestCaseError::fail)?;
        prop_assert_eq!(&read[2], &(name.clone(), new.clone()), "{:?}", text);
        // Again, in the middle.
        let mut file = Named::parse(&text).unwrap();
        file.set("kept", &new);
        let read = values(&file.text()).map_err(TestCaseError::fail)?;
        prop_assert_eq!(&read[0].1, &new);
        prop_assert_eq!(&read[1].1, "1");
    }

    #[test]
    fn no_text_makes_it_fall_over(text in "(\\PC|[\n\t\r:#|>&*!\"' -]){0,60}") {
        if let Ok(file) = Named::parse(&text) {
            prop_assert_eq!(file.text().to_string(), text);
            let _ = file.values();
        }
    }
}
