//! From records to `results.json`, and the table on the terminal.

use std::io::{IsTerminal, Write};
use std::path::Path;

use neutral_eval::CorpusScore;
use neutral_report::{
    AgainstBase, BaseResult, ByCorpus, ByDomain, ByTask, Environment, Metrics, Neutrality,
    PaperFigure, PaperFigures, Parameters, Results, SCHEMA, Status, Style, TrialResult,
    terminal_table,
};
use neutral_spec::{PaperFigureSpec, PaperSpec, Plan, Trial};
use neutral_store::Fingerprint;
use serde_json::json;

use crate::failure::Failure;
use crate::scores::{Scores, of_scores};
use crate::trial::{Shared, TrialRecord};

/// Collects what the trials of a run gave, in the order of the plan.
pub(crate) struct ResultsBuilder {
    results: Results,
}

impl ResultsBuilder {
    /// Results without trials yet.
    pub(crate) fn new(
        shared: &Shared,
        environment: Environment,
        base: &Scores,
        tasks: Option<ByDomain<ByTask>>,
    ) -> anyhow::Result<Self> {
        let plan = shared.plan;
        let tokenizer = &shared.inputs.tokenizer;
        let trials: Vec<_> = plan.trials.iter().map(|trial| shared.fingerprint(trial)).collect();
        let results = Results {
            schema: SCHEMA,
            experiment: plan.experiment.clone(),
            question: plan.question.clone(),
            plan_fingerprint: Fingerprint::of(&trials),
            environment,
            setting: Some(json!({
                "base": shared.base.source,
                "tokenizer": plan.tokenizer,
                "evaluation": plan.evaluation,
                "tasks": plan.tasks,
                "document_separator": tokenizer.prompts().name(tokenizer.separator_id()),
                "task_tokens": shared.task_rules()?,
            })),
            base: BaseResult {
                parameters: shared.base.parameters(),
                metrics: metrics(base),
                tasks,
            },
            control: plan.control.clone(),
            paper: plan.paper.as_ref().map(paper),
            trials: Vec::new(),
        };
        Ok(Self { results })
    }

    /// What there is so far.
    pub(crate) fn current(&self) -> &Results {
        &self.results
    }

    /// What there is so far, these trials not looked at yet.
    pub(crate) fn without(&self, rest: &[Trial]) -> Results {
        let mut results = self.results.clone();
        let words = "not looked at yet; the same command goes on with it";
        let of =
            |trial: &Trial| self.unmeasured(trial, Status::Interrupted, Some(words.to_owned()));
        results.trials.extend(rest.iter().map(of));
        results
    }

    /// Adds a finished trial, and holds those that there are against the control.
    pub(crate) fn finished(
        &mut self,
        trial: &Trial,
        record: &TrialRecord,
        made_from: Option<Fingerprint>,
        against_base: Option<AgainstBase>,
        tasks: Option<ByDomain<ByTask>>,
    ) {
        let after = metrics(&record.scores);
        let base = &self.results.base.metrics;
        let (forgetting, learning) = (
            neutral_report::forgetting(&base.original, &after.original),
            neutral_report::learning(&base.new, &after.new),
        );
        let result = TrialResult {
            fingerprint: made_from,
            status: Status::Finished,
            forgetting: Some(forgetting),
            learning: Some(learning),
            metrics: Some(after),
            neutrality: neutrality(&record.scores),
            against_base,
            tasks,
            tokens: Some(record.training.tokens),
            tokens_per_second: Some(record.training.tokens_per_second),
            peak_rss_bytes: Some(record.training.peak_rss_bytes),
            elapsed_seconds: Some(record.training.elapsed_seconds),
            ..self.unmeasured(trial, Status::Interrupted, None)
        };
        self.results.trials.push(result);
        self.results.measure_from_control();
        self.made_by(record.git.as_deref());
    }

    /// Notes whose code a trial was made by, where that is not this process'.
    fn made_by(&mut self, code: Option<&str>) {
        let all = &mut self.results.environment.git;
        match (all.as_mut(), code) {
            (Some(all), Some(code)) if all.split(", ").all(|known| known != code) => {
                *all = format!("{all}, {code}");
            }
            (None, Some(code)) => *all = Some(code.to_owned()),
            _ => {}
        }
    }

    /// Adds a trial that an error ended.
    pub(crate) fn failed(&mut self, trial: &Trial, failure: Failure) {
        let result = self.unmeasured(trial, failure.status, Some(failure.error));
        self.results.trials.push(result);
    }

    /// Adds a trial that the user stopped, or that was not begun.
    pub(crate) fn interrupted(&mut self, trial: &Trial) {
        let words = "stopped before its end; the same command goes on with it".to_owned();
        let result = self.unmeasured(trial, Status::Interrupted, Some(words));
        self.results.trials.push(result);
    }

    fn unmeasured(&self, trial: &Trial, status: Status, error: Option<String>) -> TrialResult {
        let before = |t: &&TrialResult| trial.after.as_ref().is_some_and(|a| a.trial == t.id);
        let below = self.results.trials.iter().find(before).map_or(0, |t| t.parameters.extension);
        TrialResult {
            id: trial.id.clone(),
            fingerprint: None,
            method: trial.method.kind().to_owned(),
            label: trial.label.clone(),
            seed: trial.seed,
            status,
            error,
            parameters: Parameters {
                base: self.results.base.parameters,
                extension: trial.size.extension_parameters + below,
                trainable: trial.size.trainable_parameters,
            },
            spec: serde_json::to_value(trial).unwrap_or_default(),
            metrics: None,
            forgetting: None,
            forgetting_from_control: None,
            learning: None,
            neutrality: None,
            against_base: None,
            tasks: None,
            tokens: None,
            tokens_per_second: None,
            peak_rss_bytes: None,
            elapsed_seconds: None,
        }
    }
}

/// Prints the comparison to standard output, and where its files are.
pub(crate) fn print(results: &Results, out: &Path) -> anyhow::Result<()> {
    let mut stdout = std::io::stdout().lock();
    let style = if stdout.is_terminal() { Style::Ansi } else { Style::Plain };
    writeln!(stdout, "\n{}", terminal_table(results, style))?;
    writeln!(stdout, "results.json, results.csv, report.md and its plots: {}", out.display())?;
    Ok(())
}

/// An error if not every trial finished, with all that the plan asks of it.
pub(crate) fn verdict(results: &Results, plan: &Plan, out: &Path) -> anyhow::Result<()> {
    let count = |is: fn(Status) -> bool| results.trials.iter().filter(|t| is(t.status)).count();
    let failed = count(|status| matches!(status, Status::Failed | Status::Diverged));
    let unfinished = count(|status| status == Status::Interrupted);
    let all = results.trials.len();
    let without = |is: fn(&TrialResult) -> bool| {
        let finished = |t: &&TrialResult| t.status == Status::Finished;
        results.trials.iter().filter(finished).filter(|t| is(t)).count()
    };
    let unscored = match &results.base.tasks {
        Some(_) => without(|trial| trial.tasks.is_none()),
        None => 0,
    };
    let uncompared = match plan.neutrality_tokens {
        0 => 0,
        _ => without(|trial| trial.against_base.is_none()),
    };
    if failed > 0 {
        let place = out.join("results.json");
        anyhow::bail!("{failed} of {all} trials failed; their errors stand in {}", place.display());
    }
    if unscored > 0 {
        anyhow::bail!(
            "{unscored} of {all} trials have no answers to the tasks; their errors were said above, and the same command asks again"
        );
    }
    if uncompared > 0 {
        anyhow::bail!(
            "{uncompared} of {all} trials have not been compared with their base; their errors were said above, and the same command tries again"
        );
    }
    if unfinished > 0 {
        anyhow::bail!("{unfinished} of {all} trials have not finished; run the experiment again");
    }
    Ok(())
}

fn paper(spec: &PaperSpec) -> PaperFigures {
    let figure = |(label, figure): (&String, &PaperFigureSpec)| {
        let PaperFigureSpec { forgetting, learning } = *figure;
        (label.clone(), PaperFigure { forgetting, learning })
    };
    PaperFigures { what: spec.what.clone(), figures: spec.figures.iter().map(figure).collect() }
}

fn metrics(scores: &Scores) -> ByDomain<ByCorpus<Metrics>> {
    of_scores(scores, |score| {
        let neutral_eval::Metrics { bits_per_byte, nats_per_token, perplexity, tokens, bytes } =
            score.metrics;
        Metrics { bits_per_byte, nats_per_token, perplexity, tokens, bytes }
    })
}

/// What gates and residues did, all corpora of a domain together.
pub(crate) fn neutrality(scores: &Scores) -> Option<ByDomain<Neutrality>> {
    let domain = |scores: &ByCorpus<CorpusScore>| {
        let parts = scores.values().filter_map(|score| {
            let n = score.neutrality.as_ref()?;
            let part = Neutrality {
                gate_zero_fraction: n.gate_zero_fraction,
                residue_l1: n.residue_l1,
                gate_zero_fraction_per_block: n.gate_zero_fraction_per_block.clone(),
                residue_l1_per_block: n.residue_l1_per_block.clone(),
            };
            Some((part, n.tokens))
        });
        Neutrality::pooled(&parts.collect::<Vec<_>>())
    };
    Some(ByDomain { original: domain(&scores.original)?, new: domain(&scores.new)? })
}
