//! A large set of mutated credentials, the same in every run: links and HS256 tokens, some broken on the way, most broken
//! before they were signed, so that what lies behind the signature is reached.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use percent_encoding::{NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use sluicegate::gate::hmac::HmacKey;

use super::edge_function::Asked;

pub(crate) const NOW: u64 = 1_800_000_000;

/// SplitMix64 (Steele, Lea and Flood 2014): one line, and no dependence on what a library thinks random is.
pub(crate) struct Dice(pub(crate) u64);

impl Dice {
    fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, most: usize) -> usize {
        usize::try_from(self.roll() % most as u64).unwrap()
    }

    fn pick<'t, T: ?Sized>(&mut self, from: &[&'t T]) -> &'t T {
        from[self.below(from.len())]
    }

    fn one_in(&mut self, many: usize) -> bool {
        self.below(many) == 0
    }
}

/// A key that signs: its id or its issuer's, and its secret.
pub(crate) struct Signer {
    pub(crate) name: String,
    pub(crate) secret: String,
}

const HOSTS: [&str; 44] = [
    "files.example",
    "FILES.Example",
    "files.example:443",
    "files.example:8443",
    "files.example:",
    "files.example:0",
    "files.example:65535",
    "files.example:65536",
    "files.example:080",
    "files.example:8a",
    "user@files.example",
    "u:p@files.example",
    "files.example.",
    "files..example",
    ".files.example",
    "a_b.example",
    "-.example",
    "127.0.0.1",
    "127.1",
    "127.0.0.01",
    "0x7f.0.0.1",
    "2130706433",
    "1.2.3.4.5",
    "256.1.1.1",
    "a.1",
    "a.0x",
    "a.0xg",
    "[::1]",
    "[::1]:443",
    "[::ffff:1.2.3.4]",
    "[1:2:3:4:5:6:7::]",
    "[::1%25eth0]",
    "[::1",
    "::1",
    "files%2eexample",
    "files.exam ple",
    "files.ex<ample",
    "files.ex|ample",
    "files.ex^ample",
    "bücher.example",
    "xn--bcher-kva.example",
    "xn--a.example",
    "files。example",
    "ⓕiles.example",
];
const PATHS: [&str; 36] = [
    "/reports/..%3b/x",
    "/reports/.%3B/x",
    "/reports/%2%65%2%65/x",
    "/reports/%%32%65%2%65/x",
    "/reports/%2%66..%3bx",
    "/reports/a%3bb",
    "/reports/2026.pdf",
    "",
    "/",
    "?",
    "?a=b&c=d",
    "/a/../b",
    "/a/./b",
    "/%2e%2e/b",
    "/a/..;/b",
    "/a%2fb",
    "/a%5cb",
    "/a\\b",
    "/a#b",
    "/a%00b",
    "/a%b",
    "/a%zz",
    "/ä",
    "/%C3%A4",
    "/a b",
    "/a\u{a0}b",
    "/a\u{2028}b",
    "//a",
    "/a//b",
    "/'\"`{}|^",
    "/a?'",
    "/a?b?c",
    "/😀",
    "/*",
    "/a%25b",
    "/%c0%ae/",
];
const NAMES: [&str; 22] = [
    "annual report.pdf",
    "",
    ".",
    "..",
    "...",
    "a/b",
    "a\\b",
    "ä",
    "日本語.txt",
    "😀",
    "a\u{202e}b",
    "a\u{200e}",
    "a\u{61c}b",
    "a\u{2066}b",
    "a\nb",
    "a\u{85}b",
    "a\u{7f}",
    "100%.txt",
    "a\"b",
    "~x",
    "CON",
    "\u{feff}a",
];
const ADDRESSES: [&str; 40] = [
    "203.0.113.7",
    "203.0.113.0/24",
    "203.0.113.7/32",
    "203.0.113.8",
    "0.0.0.0/0",
    "0.0.0.0/00",
    "203.0.113.7/24",
    "203.0.113.0/33",
    "203.0.113.0/",
    "203.0.113.0/+8",
    "203.000.113.0/24",
    "203.0.113.07",
    "203.0.113",
    "203.0.113.0.0",
    "256.0.0.0/8",
    "2001:db8::7",
    "2001:db8::/32",
    "2001:DB8::/32",
    "2001:db8::7/128",
    "2001:db8::7/129",
    "::/0",
    "::",
    "::1",
    "::ffff:203.0.113.7",
    "::ffff:0:0/96",
    "::ffff:203.0.113.0/120",
    "::ffff:0:0/95",
    "1:2:3:4:5:6:7:8",
    "1:2:3:4:5:6:7::",
    "::2:3:4:5:6:7:8",
    "1:2:3:4:5:6:7:8:9",
    "1::2::3",
    ":::",
    "1:",
    "12345::",
    "::1.2.3.4",
    "1.2.3.4::",
    "::1.2.3.4:5",
    "fe80::1%eth0",
    "[::1]",
];
const CLIENTS: [&str; 9] = [
    "203.0.113.7",
    "203.0.113.8",
    "203.0.114.0",
    "::ffff:203.0.113.7",
    "2001:db8::7",
    "2001:db8:1::7",
    "::1",
    "1:2:3:4:5:6:7:8",
    "255.255.255.255",
];
const TIMES: [&str; 20] = [
    "1800003600",
    "1800000001",
    "1800000000",
    "1799999999",
    "0",
    "1",
    "999999999999",
    "1000000000000",
    "01",
    "+1800003600",
    "-1",
    "",
    " 1800003600",
    "1800003600.0",
    "1.8e9",
    "18000036000",
    "１８００００３６００",
    "1800086400",
    "1800086401",
    "1800003600\n",
];
const IDS: [&str; 9] = ["order-7", "gone-1", "gone-2", "", "a b", "a/b", "A._-9", "ä", "__proto__"];
/// What is put in somewhere.
const BITS: [&str; 42] = [
    "%3b",
    "%2%65",
    "a",
    "A",
    "0",
    "9",
    ".",
    "/",
    ":",
    "@",
    "?",
    "#",
    "%",
    "%2",
    "%20",
    "%zz",
    "%00",
    "%0a",
    "%ff",
    "%C3%A4",
    "%ED%A0%80",
    "+",
    "&",
    "&&",
    "=",
    ";",
    "*",
    "-",
    "_",
    "~",
    "\"",
    "\\",
    "{",
    "}",
    "[",
    ",",
    " ",
    "\t",
    "\u{e9}",
    "\u{1f600}",
    "é",
    "\u{0}",
];

/// Something about a text changes: a character goes, comes, doubles or becomes another.
fn mutate(text: &str, dice: &mut Dice) -> String {
    let mut chars: Vec<String> = text.chars().map(String::from).collect();
    for _ in 0..=dice.below(2) {
        let at = dice.below(chars.len() + 1);
        match dice.below(4) {
            0 if at < chars.len() => drop(chars.remove(at)),
            1 if at < chars.len() => dice.pick(&BITS).clone_into(&mut chars[at]),
            2 if at < chars.len() => chars.insert(at, chars[at].clone()),
            _ => chars.insert(at, dice.pick(&BITS).to_owned()),
        }
    }
    chars.concat()
}

fn url(dice: &mut Dice) -> String {
    let scheme = dice
        .pick(&["https://", "https://", "https://", "http://", "HTTPS://", "ftp://", "https:/", "//", ""]);
    let plain = dice.one_in(2);
    let host = if plain { HOSTS[0] } else { dice.pick(&HOSTS) };
    let text = format!("{scheme}{host}{}", dice.pick(&PATHS));
    if dice.one_in(4) { mutate(&text, dice) } else { text }
}

fn value(name: &str, dice: &mut Dice) -> String {
    let good = dice.one_in(2);
    let text = match name {
        "exp" if good => TIMES[0].to_owned(),
        "nbf" | "iat" if good => "1800000000".to_owned(),
        "filename" if good => NAMES[dice.below(8)].to_owned(),
        "disposition" if good => "inline".to_owned(),
        "ip" if good => ADDRESSES[dice.below(5)].to_owned(),
        "id" if good => IDS[dice.below(3)].to_owned(),
        "url" => url(dice),
        "exp" => dice.pick(&TIMES).to_owned(),
        "nbf" | "iat" => {
            dice.pick(&["1799999000", "1800000000", "1800000001", "0", "00", "x", "1790000000"]).to_owned()
        }
        "filename" if dice.one_in(8) => "x".repeat(250 + dice.below(10)),
        "filename" => dice.pick(&NAMES).to_owned(),
        "disposition" => dice.pick(&["attachment", "inline", "Inline", "", "inline "]).to_owned(),
        "ip" => dice.pick(&ADDRESSES).to_owned(),
        _ => dice.pick(&IDS).to_owned(),
    };
    if dice.one_in(20) { mutate(&text, dice) } else { text }
}

fn asked(query: String, headers: Vec<(String, Vec<String>)>, dice: &mut Dice) -> Asked {
    let now = if dice.one_in(6) { NOW + dice.below(8000) as u64 - 4000 } else { NOW };
    let client = if dice.one_in(3) { dice.pick(&CLIENTS) } else { CLIENTS[0] };
    Asked { now, client: client.to_owned(), query, headers }
}

/// A link whose values are odd and whose signature is right.
pub(crate) fn signed_link(signers: &[Signer], dice: &mut Dice) -> Asked {
    let signer = &signers[dice.below(signers.len())];
    let good = |name: &str| match name {
        "url" => "https://files.example/reports/2026.pdf".to_owned(),
        _ => "1800003600".to_owned(),
    };
    let mut parameters: Vec<(&str, String)> = vec![("kid", signer.name.clone())];
    for name in ["url", "exp"] {
        let odd = dice.one_in(4);
        parameters.push((name, if odd { value(name, dice) } else { good(name) }));
    }
    for name in ["nbf", "filename", "disposition", "id", "ip"] {
        if dice.one_in(6) {
            parameters.push((name, value(name, dice)));
        }
    }
    parameters.sort();
    let lines: Vec<_> = parameters.iter().map(|(name, value)| format!("{name}={value}\n")).collect();
    let key = HmacKey::new(&signer.secret.clone().into()).unwrap();
    let sig = key.tag(&format!("sluicegate-link-v1\n{}", lines.concat())).encode();
    parameters.push(("sig", sig));
    let query: Vec<_> =
        parameters.iter().map(|(name, value)| format!("{name}={}", encode(value, dice))).collect();
    asked(query.join("&"), Vec::new(), dice)
}

/// One of the encodings that decode alike, now and then one that does not.
fn encode(value: &str, dice: &mut Dice) -> String {
    match dice.below(8) {
        0 => value
            .replace('%', "%25")
            .replace(' ', "+")
            .replace('&', "%26")
            .replace('+', "%2B")
            .replace('#', "%23"),
        1 => {
            utf8_percent_encode(value, NON_ALPHANUMERIC).to_string().to_ascii_lowercase().replace("%2e", ".")
        }
        _ => utf8_percent_encode(value, NON_ALPHANUMERIC).to_string(),
    }
}

/// A query that something happened to on its way.
pub(crate) fn broken_query(query: &str, dice: &mut Dice) -> Asked {
    let mut pieces: Vec<String> = query.split('&').map(str::to_owned).collect();
    let at = dice.below(pieces.len());
    match dice.below(10) {
        0 => drop(pieces.remove(at)),
        9 => pieces.retain(|piece| {
            !piece.starts_with("kid") && !piece.starts_with("exp") && !piece.starts_with("sig")
        }),
        1 => pieces.push(pieces[at].clone()),
        2 => pieces.reverse(),
        3 => pieces[at] = pieces[at].to_uppercase(),
        4 => pieces[at] = percent_decode_str(&pieces[at]).decode_utf8_lossy().replace(['&', '#'], ""),
        5 => pieces[at] = mutate(&pieces[at], dice),
        6 => pieces[at] = pieces[at].replacen('=', dice.pick(&["[]=", "%3D", "==", ";=", ""]), 1),
        7 => pieces.insert(
            at,
            dice.pick(&[
                "utm_source=x",
                "%75rl=x",
                "kid",
                "exp=",
                "=",
                "sig=",
                "token=",
                "token=a.b.c",
                "%zz=1",
                "ID=x",
            ])
            .to_owned(),
        ),
        _ => return asked(mutate(query, dice), Vec::new(), dice),
    }
    asked(pieces.join("&"), Vec::new(), dice)
}

fn json(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// A claim as JSON: mostly of the form that it must have.
#[allow(clippy::too_many_lines, reason = "a list of what to draw from")]
fn claim(name: &str, dice: &mut Dice) -> String {
    match name {
        "exp" if !dice.one_in(3) => "1800003600".to_owned(),
        "exp" | "nbf" | "iat" if dice.one_in(2) => dice
            .pick(&[
                "1800000000",
                "1800003600",
                "1.8e9",
                "1800003600.0",
                "-1",
                "01",
                "1e999",
                "null",
                "\"1800003600\"",
                "1000000000000",
                "0",
                "[]",
            ])
            .to_owned(),
        "exp" | "nbf" | "iat" => value(name, dice),
        "urls" => {
            let url = "https://files.example/reports/2026.pdf";
            let patterns = [
                "*",
                url,
                "https://files.example/*",
                "https://files.example/reports/*",
                "https://files.example/rep*",
                "https://other.example/*",
                "http://files.example/*",
                "https://files.example:443/*",
                "https://files.example:0/*",
                "https://*",
                "**",
                "",
                "https://files.example/a/../*",
                "https://files.example/%72eports/*",
                "https://bücher.example/*",
                "https://files.example/*\n",
                "https://files.example/reports/2026.pdf\n",
            ];
            let many = dice.below(3);
            let list: Vec<_> = (0..=many).map(|_| json(dice.pick(&patterns))).collect();
            if dice.one_in(12) {
                dice.pick(&["[]", "\"*\"", "[1]", "{}", "[[\"*\"]]"]).to_owned()
            } else {
                format!("[{}]", list.join(","))
            }
        }
        "url" => json(&if dice.one_in(2) {
            "https://files.example/reports/2026.pdf".to_owned()
        } else {
            url(dice)
        }),
        "jti" => json(&value("id", dice)),
        _ if dice.one_in(10) => dice
            .pick(&[
                "1",
                "null",
                "{}",
                "[\"a\"]",
                "\"\\ud800\"",
                "\"\\\\ud83d\\ude00\"",
                "\"\\u0041\"",
                "\"a\\nb\"",
                "\"\\ud83d\\ude00\"",
            ])
            .to_owned(),
        name => json(&value(name, dice)),
    }
}

fn members(mut pairs: Vec<(String, String)>, dice: &mut Dice) -> String {
    if dice.one_in(24) {
        let again = pairs[dice.below(pairs.len())].clone();
        pairs.push(again);
    }
    let gap = dice.pick(&["", "", "", " ", "\n", "\r\t"]);
    let list: Vec<_> =
        pairs.iter().map(|(name, value)| format!("{gap}\"{name}\"{gap}:{gap}{value}")).collect();
    let text = format!("{{{}{gap}}}", list.join(","));
    match dice.below(48) {
        0 => mutate(&text, dice),
        1 => format!("{text}{}", dice.pick(&[" ", "\n", "x", "{}", "\u{feff}"])),
        2 => format!("{}{text}", dice.pick(&[" ", "\u{feff}", "[", "//"])),
        _ => text,
    }
}

/// An HS256 token whose claims are odd and whose signature is right, in the query or in a header.
#[allow(clippy::too_many_lines, reason = "one part after the other, each a draw")]
pub(crate) fn signed_token(signers: &[Signer], dice: &mut Dice) -> Asked {
    let signer = &signers[dice.below(signers.len())];
    let (issuer, kid) = signer.name.split_once('#').unwrap();
    let mut head = vec![("alg".to_owned(), "\"HS256\"".to_owned())];
    if !dice.one_in(4) {
        head.push((
            "kid".to_owned(),
            if dice.one_in(8) { json(dice.pick(&["", "other", "__proto__"])) } else { json(kid) },
        ));
    }
    if dice.one_in(4) {
        let odd =
            dice.pick(&["\"JWT\"", "\"jwt\"", "\"sluicegate+jwt\"", "\"JWT\\n\"", "\"at+jwt\"", "1", "null"]);
        head.push(("typ".to_owned(), odd.to_owned()));
    }
    if dice.one_in(20) {
        let odd = dice.pick(&["crit", "jku", "b64", "alg\\n", "\\u0061lg", "Alg"]);
        head.push((odd.to_owned(), "\"HS256\"".to_owned()));
    }
    let audience = dice.pick(&[
        "\"acme-downloads\"",
        "\"acme-downloads\"",
        "\"acme-downloads\"",
        "[\"acme-downloads\"]",
        "[\"x\",\"acme-downloads\"]",
        "[]",
        "\"other\"",
        "[\"acme-downloads\",\"acme-downloads\"]",
        "1",
    ]);
    let mut body = vec![("iss".to_owned(), json(issuer)), ("aud".to_owned(), audience.to_owned())];
    let scope = dice.pick(&["url", "url", "urls", "urls", "none", "both"]);
    let mut names = vec!["exp"];
    names.extend(
        ["nbf", "iat", "filename", "disposition", "jti", "ip", "x"].iter().filter(|_| dice.one_in(7)),
    );
    names.extend(match scope {
        "url" => &["url"][..],
        "urls" => &["urls"],
        "both" => &["url", "urls"],
        _ => &[],
    });
    for name in names {
        if name != "exp" || !dice.one_in(30) {
            body.push((name.to_owned(), claim(name, dice)));
        }
    }
    let signed = format!(
        "{}.{}",
        URL_SAFE_NO_PAD.encode(members(head, dice)),
        URL_SAFE_NO_PAD.encode(members(body, dice))
    );
    let key = HmacKey::new(&signer.secret.clone().into()).unwrap();
    let mut token = format!("{signed}.{}", key.tag(&signed).encode());
    if dice.one_in(10) {
        token = mutate(&token, dice);
    }
    let mut query = Vec::new();
    if scope == "urls" || dice.one_in(2) {
        let url =
            if dice.one_in(3) { url(dice) } else { "https://files.example/reports/2026.pdf".to_owned() };
        query.push(format!("url={}", encode(&url, dice)));
    }
    if dice.one_in(15) {
        query.push(dice.pick(&["kid=a", "exp=1", "filename=x", "utm=1", "token=", "id"]).to_owned());
    }
    let mut headers = Vec::new();
    if dice.one_in(3) && token.bytes().all(|b| b.is_ascii_graphic()) {
        let (name, value) = if dice.one_in(2) {
            ("authorization", format!("Bearer {token}"))
        } else {
            ("x-sluicegate-token", token)
        };
        headers.push((name.to_owned(), vec![value]));
    } else {
        query.push(format!("token={}", utf8_percent_encode(&token, NON_ALPHANUMERIC)));
    }
    asked(query.join("&"), headers, dice)
}
