//! Two artificial languages, for tests and smoke runs that need no network.
//!
//! They share nothing but space, full stop and line break, so learning one does not help with the
//! other, and a text betrays its language by any letter:
//!
//! | | A | B |
//! |---|---|---|
//! | letters | b d g l m n r · a e i | f h k p s t v z · o u y |
//! | order | subject, verb, object | verb, subject, object |
//! | adjective | before its noun | after its noun |
//! | agreement | number, by a suffix on article, noun and verb | gender, by a prefix on noun and adjective |
//!
//! Words follow Zipf's law, and each document has a topic that makes some nouns eight times as
//! frequent. So there is something to learn at every range: letters to syllables, words, agreement
//! within a sentence, topic within a document. The lexicon belongs to the language, not to the seed.
//!
//! Only integers and `ChaCha8`'s raw output are used, so a corpus is the same on every machine.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::Document;

const NOUNS: usize = 96;
const VERBS: usize = 48;
const ADJECTIVES: usize = 32;
const PREPOSITIONS: usize = 6;
const TOPICS: usize = 6;
const TOPIC_BOOST: u64 = 8;
const GENDERS: [&str; 3] = ["ko", "tu", "zy"];

/// What a manifest says of a synthetic corpus.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SyntheticSpec {
    /// Which language.
    pub language: SyntheticLanguage,
    /// How many documents, about 600 bytes each.
    pub documents: u64,
    /// Another seed gives other documents in the same language.
    pub seed: u64,
}

impl SyntheticSpec {
    /// The documents that it describes.
    pub fn generate(&self) -> impl Iterator<Item = Document> + use<> {
        stream(self.language, self.documents, self.seed)
    }
}

/// One of the two languages.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SyntheticLanguage {
    /// Subject first, number agreement by suffixes.
    A,
    /// Verb first, gender agreement by prefixes.
    B,
}

/// Documents of 8 to 15 sentences, one a line, each of at least six words.
///
/// A pure function; the first `n` documents are the same for any number of them.
pub fn generate(language: SyntheticLanguage, documents: u64, seed: u64) -> Vec<Document> {
    stream(language, documents, seed).collect()
}

fn stream(
    language: SyntheticLanguage,
    documents: u64,
    seed: u64,
) -> impl Iterator<Item = Document> {
    let lexicon = Lexicon::of(language);
    (0..documents).map(move |index| Document {
        id: format!("synthetic-{index:06}"),
        text: Writer::new(&lexicon, seed, index).document(),
    })
}

/// The words of a language, most frequent first.
struct Lexicon {
    language: SyntheticLanguage,
    nouns: Vec<String>,
    verbs: Vec<String>,
    adjectives: Vec<String>,
    prepositions: Vec<String>,
}

impl Lexicon {
    fn of(language: SyntheticLanguage) -> Self {
        let (consonants, vowels): (&[u8], &[u8]) = match language {
            SyntheticLanguage::A => (b"bdglmnr", b"aei"),
            SyntheticLanguage::B => (b"fhkpstvz", b"ouy"),
        };
        let mut rng = random(&("lexicon", language));
        // The article of A is not to be a preposition as well.
        let mut used = std::collections::BTreeSet::from(["ni".to_owned()]);
        let mut words = |count: usize, syllables: usize| -> Vec<String> {
            let mut words = Vec::with_capacity(count);
            while words.len() < count {
                let word: String = (0..syllables)
                    .flat_map(|_| [consonants, vowels])
                    .map(|letters| char::from(letters[below(&mut rng, letters.len() as u64)]))
                    .collect();
                if used.insert(word.clone()) {
                    words.push(word);
                }
            }
            words
        };
        Self {
            language,
            prepositions: words(PREPOSITIONS, 1),
            nouns: words(NOUNS, 3),
            verbs: words(VERBS, 2),
            adjectives: words(ADJECTIVES, 3),
        }
    }
}

/// Writes one document.
struct Writer<'a> {
    lexicon: &'a Lexicon,
    rng: ChaCha8Rng,
    topic: usize,
}

impl<'a> Writer<'a> {
    fn new(lexicon: &'a Lexicon, seed: u64, index: u64) -> Self {
        let mut rng = random(&("document", lexicon.language, seed, index));
        let topic = below(&mut rng, TOPICS as u64);
        Self { lexicon, rng, topic }
    }

    fn document(&mut self) -> String {
        let sentences = 8 + below(&mut self.rng, 8);
        let lines: Vec<_> = (0..sentences).map(|_| self.sentence()).collect();
        lines.join("\n")
    }

    fn sentence(&mut self) -> String {
        let mut words = match self.lexicon.language {
            SyntheticLanguage::A => {
                let plural = self.one_in(2);
                let mut words = self.phrase_a(plural);
                words.push(self.verb() + if plural { "l" } else { "r" });
                let plural = self.one_in(2);
                words.extend(self.phrase_a(plural));
                words
            }
            SyntheticLanguage::B => {
                let mut words = vec![self.verb()];
                words.extend(self.phrase_b(true));
                words.extend(self.phrase_b(true));
                words
            }
        };
        // Six words are what cleaning asks of a line; a third of longer ones goes on as well.
        if words.len() < 6 || self.one_in(3) {
            words.push(self.preposition());
            words.extend(match self.lexicon.language {
                SyntheticLanguage::A => self.phrase_a(false),
                SyntheticLanguage::B => self.phrase_b(false),
            });
        }
        words.join(" ") + "."
    }

    /// Article, sometimes an adjective, noun: `ni`, noun bare; plural `nim`, noun in `-m`.
    fn phrase_a(&mut self, plural: bool) -> Vec<String> {
        let suffix = if plural { "m" } else { "" };
        let mut words = vec![format!("ni{suffix}")];
        if self.one_in(3) {
            words.push(self.adjective());
        }
        let noun = self.noun();
        words.push(format!("{}{suffix}", self.lexicon.nouns[noun]));
        words
    }

    /// Noun and, always or sometimes, an adjective, both with the prefix of the noun's gender.
    fn phrase_b(&mut self, adjective: bool) -> Vec<String> {
        let noun = self.noun();
        let gender = GENDERS[noun % GENDERS.len()];
        let mut words = vec![format!("{gender}{}", self.lexicon.nouns[noun])];
        if adjective || self.one_in(3) {
            words.push(format!("{gender}{}", self.adjective()));
        }
        words
    }

    fn noun(&mut self) -> usize {
        let topic = self.topic;
        // The topic is taken from the second digit, so that every topic has nouns of every gender.
        let boosted = |rank: usize| rank / GENDERS.len() % TOPICS == topic;
        self.zipf(NOUNS, |rank| if boosted(rank) { TOPIC_BOOST } else { 1 })
    }

    fn verb(&mut self) -> String {
        let rank = self.zipf(VERBS, |_| 1);
        self.lexicon.verbs[rank].clone()
    }

    fn adjective(&mut self) -> String {
        let rank = self.zipf(ADJECTIVES, |_| 1);
        self.lexicon.adjectives[rank].clone()
    }

    fn preposition(&mut self) -> String {
        let rank = self.zipf(PREPOSITIONS, |_| 1);
        self.lexicon.prepositions[rank].clone()
    }

    /// A rank with weight `boost(rank) / (rank + 1)`, in integers.
    fn zipf(&mut self, count: usize, boost: impl Fn(usize) -> u64) -> usize {
        let weight = |rank: usize| 1_000_000 * boost(rank) / (rank as u64 + 1);
        let mut left = self.rng.next_u64() % (0..count).map(weight).sum::<u64>();
        (0..count)
            .find(|&rank| {
                let found = left < weight(rank);
                left = left.saturating_sub(weight(rank));
                found
            })
            .unwrap_or(count - 1)
    }

    fn one_in(&mut self, n: u64) -> bool {
        below(&mut self.rng, n) == 0
    }
}

/// A number below `n`, of which the bias is `n` in 2⁶⁴.
pub(crate) fn below(rng: &mut ChaCha8Rng, n: u64) -> usize {
    (rng.next_u64() % n) as usize
}

/// A random stream of its own for each purpose.
pub(crate) fn random(purpose: &impl std::fmt::Debug) -> ChaCha8Rng {
    ChaCha8Rng::from_seed(Sha256::digest(format!("{purpose:?}")).into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::{BTreeMap, BTreeSet};

    const BOTH: [SyntheticLanguage; 2] = [SyntheticLanguage::A, SyntheticLanguage::B];

    fn text(language: SyntheticLanguage, seed: u64) -> String {
        let documents = generate(language, 200, seed);
        documents.into_iter().map(|d| d.text + "\n").collect()
    }

    #[test]
    fn documents_depend_on_seed_and_number_alone() {
        for language in BOTH {
            let ten = generate(language, 10, 1);
            assert_eq!(ten, generate(language, 20, 1)[..10]);
            assert_ne!(ten, generate(language, 10, 2));
            let ids: BTreeSet<_> = ten.iter().map(|d| &d.id).collect();
            assert_eq!(ids.len(), 10);
        }
    }

    #[test]
    fn the_text_is_the_one_that_it_has_always_been() {
        // Manifests hold checksums of this text. If it must change, they change with it.
        let all = BOTH.map(|language| neutral_store::sha256_bytes(text(language, 1).as_bytes()));
        assert_eq!(all.map(|hex| hex[..16].to_owned()), ["3120380012a1f376", "b11599d1f57572cd"]);
    }

    #[test]
    fn the_languages_share_no_letter_and_no_word() {
        let letters = BOTH
            .map(|l| text(l, 1).chars().filter(|c| c.is_alphabetic()).collect::<BTreeSet<char>>());
        assert!(letters[0].is_disjoint(&letters[1]), "{letters:?}");
        assert!(letters.iter().all(|l| l.len() >= 10));
    }

    #[test]
    fn every_line_passes_the_rule_for_real_text() {
        for language in BOTH {
            for line in text(language, 3).lines() {
                assert!(line.split(' ').count() >= 6, "{line}");
                let good = line.chars().filter(|c| c.is_alphabetic() || *c == ' ').count();
                assert!(good * 10 >= line.chars().count() * 8, "{line}");
            }
        }
    }

    #[test]
    fn in_a_the_verb_and_the_article_agree_with_the_number_of_the_noun() {
        for line in text(SyntheticLanguage::A, 4).lines() {
            let words: Vec<_> = line.trim_end_matches('.').split(' ').collect();
            let verb = words.iter().position(|w| w.ends_with(['l', 'r'])).unwrap();
            let plural = words[verb].ends_with('l');
            assert_eq!(words[0] == "nim", plural, "{line}");
            assert_eq!(words[verb - 1].ends_with('m'), plural, "{line}");
        }
    }

    #[test]
    fn in_b_the_verb_is_first_and_adjectives_have_the_gender_of_their_noun() {
        for line in text(SyntheticLanguage::B, 4).lines() {
            let words: Vec<_> = line.trim_end_matches('.').split(' ').collect();
            assert_eq!(words[0].len(), 4, "a verb has two syllables: {line}");
            for pair in [[1, 2], [3, 4]] {
                let [noun, adjective] = pair.map(|at| &words[at][..2]);
                assert!(GENDERS.contains(&noun) && noun == adjective, "{line}");
            }
        }
    }

    #[test]
    fn words_are_zipfian_and_documents_have_topics() {
        let lexicon = Lexicon::of(SyntheticLanguage::B);
        let rank_of: BTreeMap<_, _> =
            lexicon.nouns.iter().enumerate().map(|(rank, noun)| (noun.as_str(), rank)).collect();
        let documents = generate(SyntheticLanguage::B, 300, 5);
        let mut by_rank = vec![0; NOUNS];
        let mut share_of_topic = 0.0;
        for document in &documents {
            let mut by_topic = [0; TOPICS];
            for word in document.text.split([' ', '\n', '.']).filter(|w| w.len() == 8) {
                if let Some(&rank) = rank_of.get(&word[2..]) {
                    by_rank[rank] += 1;
                    by_topic[rank / GENDERS.len() % TOPICS] += 1;
                }
            }
            let total: i32 = by_topic.iter().sum();
            share_of_topic += f64::from(*by_topic.iter().max().unwrap()) / f64::from(total) / 300.0;
        }
        let tail: i32 = by_rank[NOUNS - 3..].iter().sum();
        assert!(by_rank[..3].iter().sum::<i32>() > 10 * tail, "{by_rank:?}");
        assert!(by_rank.iter().all(|&n| n > 0), "every noun is used: {by_rank:?}");
        assert!(share_of_topic > 0.5, "{share_of_topic}");
    }
}
