use super::*;
use crate::gate::hmac::HmacKey;
use crate::gate::policy::PolicySource;

const SECRET: &str = "sgk1_0123456789abcdefghijklmnopqrstuvwxyzABCDEFG";
const NOW: UnixTime = UnixTime(1_800_000_000);

fn policies() -> Policies {
    let text = r#"
        tenant = "t"
        [[keys]]
        id = "k"
        secret = "env:S"
        [[keys]]
        id = "other"
        secret = "env:O"
        [[allow]]
        host = "a.example"
    "#;
    let source = PolicySource { file: "t.toml", stem: "t", text };
    Policies::load(&[source], &|reference| {
        let other = format!("{reference:?}").contains("\"O\"");
        Ok(if other { SECRET.replace('0', "X") } else { SECRET.to_owned() }.into())
    })
    .unwrap()
}

fn explain(query: &str) -> Walk {
    walk(&policies(), query, &HeaderMap::new(), &FetchedKeys::new(), NOW, None)
}

fn sign(secret: &str, text: &str) -> String {
    HmacKey::new(&secret.to_owned().into()).unwrap().tag(text).encode()
}

const QUERY: &str = "url=https%3A%2F%2Fa.example%2Fx%20y%2Bz&kid=k&exp=1800000060&filename=a%20b&sig=";
const TEXT: &str = "sluicegate-link-v1\nexp=1800000060\nfilename=a b\nkid=k\nurl=https://a.example/x y+z\n";

/// The URL with a plain space is refused by the link stage; these cases are about the signature only.
fn hints_for(signed: &str) -> String {
    explain(&format!("{QUERY}{}", sign(SECRET, signed))).hints.join("\n")
}

#[test]
fn a_link_that_is_over_or_cut_off_is_recognised() {
    let old = "sluicegate-link-v1\nexp=1799999940\nkid=k\nurl=https://a.example/\n";
    let query = "url=https%3A%2F%2Fa.example%2F&kid=k&exp=1799999940";
    let signed = format!("{query}&sig={}", sign(SECRET, old));
    assert_eq!(explain(&signed).hints, ["`exp=1799999940` was 1m ago"]);
    let cut = explain(&signed[..signed.len() - 5]).hints;
    assert!(cut.contains(&"the link looks cut off: `sig` has 38 of 43 characters".to_owned()), "{cut:?}");
    let cut = explain(&query.replace("1799999940", "1800000060")).hints;
    assert_eq!(cut, ["there is no `sig`: the link looks cut off"]);
}

/// What has already been said to be wrong needs no comparing of strings.
#[test]
fn what_fits_no_mistake_is_said_where_the_signature_is_what_fails() {
    let sig = sign(SECRET, "sluicegate-link-v1\nexp=1800000061\nkid=k\nurl=https://a.example/\n");
    let walk = explain(&format!("url=https%3A%2F%2Fa.example%2F&kid=k&exp=1800000060&sig={sig}"));
    assert!(walk.hints.iter().any(|hint| hint.contains("none of the usual mistakes")), "{:?}", walk.hints);
    let walk = explain(&format!("url=https%3A%2F%2Fa.example%2F&kid=k&sig={sig}"));
    assert_eq!(walk.stages.last().unwrap().code, Some("malformed_link"));
    assert_eq!(walk.hints, [""; 0]);
    let walk = explain(&format!("url=https%3A%2F%2Fa.example%2F&kid=nobody&exp=1800000060&sig={sig}"));
    assert!(!walk.hints.iter().any(|hint| hint.contains("usual mistakes")), "{:?}", walk.hints);
}

#[test]
fn the_usual_mistakes_are_recognised() {
    for (signed, hint) in [
        (TEXT.trim_end().to_owned(), "without its newline"),
        (TEXT.replace('\n', "\r\n"), "CR LF"),
        (TEXT.replace("sluicegate-link-v1\n", ""), "was left out"),
        (TEXT.replace("filename=a b\n", ""), "`filename` was added after signing"),
        (TEXT.replace("a b", "a%20b"), "`filename` was signed percent-encoded"),
        (TEXT.replace("a b", "a+b"), "with `+` where the link says a space"),
        (
            TEXT.replace("a b", "a%20b")
                .replace("https://a.example/x y+z", "https%3A%2F%2Fa.example%2Fx%20y%2Bz"),
            "the values were signed percent-encoded",
        ),
    ] {
        assert!(hints_for(&signed).contains(hint), "{signed}: {}", hints_for(&signed));
    }
    let walk = explain(&format!("{QUERY}{}", sign(&SECRET.replace('0', "X"), TEXT)));
    assert!(walk.hints.iter().any(|hint| hint.contains("`other`")), "{:?}", walk.hints);
}

#[test]
fn the_line_that_differs_is_marked() {
    let walk = explain(&format!("{QUERY}{}", sign(SECRET, &TEXT.replace("a b", "a%20b"))));
    let marked: Vec<_> =
        walk.string_to_sign.iter().filter(|line| line.differs).map(|line| &*line.text).collect();
    assert_eq!(marked, ["filename=a b"]);
}

#[test]
fn other_spellings_of_a_signature_are_named() {
    for (sig, hint) in [("ab".repeat(32), "hexadecimal"), (format!("{}=", "A".repeat(43)), "padding")] {
        assert!(explain(&format!("{QUERY}{sig}")).hints.join("").contains(hint), "{sig}");
    }
}

#[test]
fn a_good_link_passes_every_stage_and_strangers_are_named() {
    let text = "sluicegate-link-v1\nexp=1800000060\nkid=k\nurl=https://a.example/x\n";
    let query =
        format!("url=https://a.example/x&kid=k&exp=1800000060&utm_source=m&URL=q&sig={}", sign(SECRET, text));
    let walk = explain(&query);
    assert!(walk.passes, "{walk:?}");
    assert_eq!(walk.stages.iter().map(|stage| stage.stage).collect::<Vec<_>>(), ["link", "verify", "policy"]);
    let hints = walk.hints.join("\n");
    assert!(
        hints.contains("`utm_source` is not part of a link") && hints.contains("did you mean `url`?"),
        "{hints}"
    );
    let refused = explain(&query.replace("a.example", "b.example"));
    assert_eq!(refused.stages.last().map(|stage| stage.code), Some(Some("invalid_signature")));
}
