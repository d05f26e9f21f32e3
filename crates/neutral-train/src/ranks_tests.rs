//! Whole trainings of a tiny model by several ranks, which are threads here: N of them are one.

use std::net::{Ipv4Addr, TcpListener};
use std::path::Path;
use std::time::{Duration, Instant};

use neutral_model::{Attention, Extension, LinearDelta, Transformer};
use neutral_spec::{LinearSite, LocalLossSpec, Precision};
use neutral_store::Fingerprint;
use neutral_torch::{Group, ParamStore, RandomStream, Rendezvous, TorchError, load_tensors};
use tch::{Device, Kind, Tensor};

use crate::metrics::StepRecord;
use crate::ranks::Ranks;
use crate::step::{StepSettings, gradients};
use crate::test_support::{Fixture, LENGTH, extension, host, model, model_in, stream};
use crate::trainer::train_until;
use crate::{Anchor, TrainError, TrainJob, TrainOutcome, Trained, checkpoint, train};

const PATIENT: Duration = Duration::from_mins(1);

/// What each rank's thread returns, by rank.
fn ranks<T: Send>(size: usize, body: impl Fn(Group) -> T + Sync) -> Vec<T> {
    let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port();
    let run = |rank| {
        let address = "127.0.0.1".to_owned();
        let meeting = Rendezvous { rank, size, address, port, timeout: PATIENT };
        body(Group::connect(&meeting, Device::Cpu).unwrap())
    };
    let run = &run;
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..size).map(|rank| scope.spawn(move || run(rank))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    })
}

fn records(folder: &Path) -> Vec<StepRecord> {
    let text = std::fs::read_to_string(folder.join("metrics.jsonl")).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// A LoRA of rank 2 on every attention's output.
struct ToyLora {
    a: Tensor,
    b: Tensor,
}

impl LinearDelta for ToyLora {
    fn apply(&self, x: &Tensor, _: &Tensor, _: Option<&Tensor>, y: Tensor) -> Tensor {
        let linear = |x: &Tensor, w: &Tensor| x.linear::<&Tensor>(&w.to_kind(x.kind()), None);
        y + linear(&linear(x, &self.a), &self.b) * 2.0
    }
}

fn lora() -> Extension {
    let mut params = ParamStore::new(Device::Cpu);
    for block in 0..2 {
        for (name, shape, std) in [("lora_A", [2, 16], 0.3), ("lora_B", [16, 2], 0.0)] {
            let name = format!("layers.{block}.{name}");
            let start = RandomStream::new(1, &name).normal(&shape, std, Device::Cpu);
            params.insert(name, start).unwrap();
        }
    }
    let mut extension = Extension::new(params);
    for block in 0..2 {
        let get = |name: &str| {
            let name = format!("layers.{block}.{name}");
            extension.params().get(&name).unwrap().shallow_clone()
        };
        let delta = ToyLora { a: get("lora_A"), b: get("lora_B") };
        extension.add_delta(block, LinearSite::OProj, Box::new(delta));
    }
    extension
}

/// Thirty steps of seven sequences, three at a time; at a rate of which a rounding error does not grow.
fn fixture(trained: Trained) -> Fixture {
    let mut fixture = Fixture::new(trained);
    fixture.spec.batch_size = 7;
    fixture.spec.micro_batch_size = Some(3);
    fixture.spec.tokens = (30 * 7 * LENGTH) as u64;
    fixture.spec.learning_rate = 1e-3;
    fixture
}

/// An anchor, given a copy of the base.
type AnchorTo = for<'b> fn(&'b Transformer) -> Anchor<'b>;

/// The records of rank 0, after all ranks have ended with the same weights.
fn curve(size: usize, new: &(impl Fn() -> Fixture + Sync), anchor: AnchorTo) -> Vec<StepRecord> {
    let folder = tempfile::tempdir().unwrap();
    let trained = |group: Option<&Group>| {
        let (mut fixture, base) = (new(), model());
        let job = fixture.job(folder.path());
        train(TrainJob { anchor: anchor(&base), group, ..job }).unwrap();
        fixture.trained_params().digest()
    };
    if size == 1 {
        trained(None);
    } else {
        let digests = ranks(size, |group| trained(Some(&group)));
        assert!(digests.iter().all(|digest| *digest == digests[0]), "{digests:?}");
    }
    records(folder.path())
}

/// The largest distance over all steps of losses, in parts of the step's loss (what is added to it may be close to
/// nothing, as a KL is at first), and of the gradient's norm, in parts of itself.
fn distances(ours: &[StepRecord], one: &[StepRecord]) -> [f64; 2] {
    assert_eq!(ours.len(), one.len());
    let losses = |r: &StepRecord| {
        let domains = [r.loss_nats_per_token_original, r.loss_nats_per_token_new];
        [domains, [r.local_loss, r.anchor_loss]].concat()
    };
    let mut largest = [0.0_f64; 2];
    for (ours, one) in ours.iter().zip(one) {
        let unit = one.loss_nats_per_token.unwrap();
        for (a, b) in losses(ours).into_iter().zip(losses(one)) {
            assert_eq!(a.is_some(), b.is_some());
            let distance = a.zip(b).map_or(0.0, |(a, b)| (a - b).abs() / unit);
            largest[0] = largest[0].max(distance);
        }
        let norm = ours.gradient_norm.unwrap() / one.gradient_norm.unwrap();
        largest[1] = largest[1].max((norm - 1.0).abs());
    }
    largest
}

fn are_one(what: &str, new: impl Fn() -> Fixture + Sync, anchor: AnchorTo) {
    let one = curve(1, &new, anchor);
    for size in [2, 3, 4] {
        let distances = distances(&curve(size, &new, anchor), &one);
        println!("{what}, {size} ranks: losses and norms {distances:?}");
        assert!(distances.iter().all(|d| *d < 1e-6), "{what}, {size} ranks: {distances:?}");
    }
}

#[test]
fn ranks_with_residues_and_their_l1_loss_have_the_losses_of_one() {
    are_one("l1", || fixture(Trained::Extension), |_| Anchor::None);
}

#[test]
fn ranks_with_lora_have_the_losses_of_one() {
    for local_loss in
        [LocalLossSpec::None {}, LocalLossSpec::Kl { weight: 3.0, warmup_fraction: Some(0.5) }]
    {
        let new = || Fixture { extension: lora(), local_loss, ..fixture(Trained::Extension) };
        are_one("lora", new, |_| Anchor::None);
    }
}

#[test]
fn ranks_that_share_a_bases_optimizer_have_the_losses_of_one() {
    are_one("fine-tuning", || fixture(Trained::Base), |_| Anchor::None);
}

#[test]
fn ranks_with_an_anchored_base_have_the_losses_of_one() {
    let new = || fixture(Trained::Base);
    are_one("kl", new, |base| Anchor::Kl { weight: 3.0, base });
    are_one("l2-sp", new, |_| Anchor::L2Sp { weight: 3.0 });
    are_one("ewc", new, |_| Anchor::Ewc { weight: 100.0, fisher_sequences: 5 });
}

/// In bf16 every activation is rounded to 8 bits, the same way wherever its row is; what differs is how
/// products over a batch's rows are summed.
#[test]
fn ranks_in_bf16_stay_within_its_rounding() {
    for trained in [Trained::Base, Trained::Extension] {
        let new = || Fixture { model: model_in(Precision::Bf16), ..fixture(trained) };
        let one = curve(1, &new, |_| Anchor::None);
        for size in [2, 3, 4] {
            let distances = distances(&curve(size, &new, |_| Anchor::None), &one);
            println!("bf16, {trained:?}, {size} ranks: losses and norms {distances:?}");
            assert!(distances[0] < 1e-3 && distances[1] < 0.02, "{size} ranks: {distances:?}");
        }
    }
}

#[test]
fn the_gradient_of_several_ranks_is_that_of_one_in_its_first_step_and_later() {
    let step = |group: Option<&Group>, micro_batch_size| {
        let (model, mut extension) = (model(), extension(0.3));
        extension.params_mut().set_trainable(true);
        let ranks = group.and_then(|g| Ranks::new(g, Trained::Extension, extension.params()));
        let parameters: Vec<_> = extension.params().iter().collect();
        let settings = StepSettings {
            local_loss: LocalLossSpec::l1(3.0),
            local_weight: 3.0,
            anchor: Anchor::None,
            attention: Attention::Causal,
            micro_batch_size,
            stop: false,
        };
        // Two steps: the second reduces within its backward pass.
        [0, 10].map(|first| {
            let batch = stream(0.3).batch(first, 10);
            let output =
                gradients(&model, &extension, &parameters, &batch, &settings, ranks.as_ref());
            output.unwrap().gradients.iter().map(host).collect::<Vec<_>>()
        })
    };
    let one = step(None, 10);
    for (size, micro) in [(2, 10), (3, 2), (4, 1)] {
        for ours in ranks(size, |group| step(Some(&group), micro)) {
            for (ours, one) in ours.iter().flatten().zip(one.iter().flatten()) {
                let largest = one.iter().fold(0.0_f64, |most, g| most.max(g.abs()));
                assert!(largest > 0.0 && ours.len() == one.len());
                for (ours, one) in ours.iter().zip(one) {
                    let distance = (ours - one).abs();
                    assert!(distance < 1e-6 * largest, "{distance} of {largest}");
                }
            }
        }
    }
}

#[test]
fn a_leaf_that_one_rank_does_not_reach_has_the_others_gradient() {
    let found = ranks(2, |group| {
        let mut params = ParamStore::new(Device::Cpu);
        for name in ["reached by rank 0", "reached by rank 1", "unreached"] {
            params.insert(name, Tensor::ones([3], (Kind::Float, Device::Cpu))).unwrap();
        }
        params.set_trainable(true);
        let ranks = Ranks::new(&group, Trained::Extension, &params).unwrap();
        let leaves: Vec<&Tensor> = params.iter().map(|(_, leaf)| leaf).collect();
        [0, 1].map(|_| {
            let loss = (leaves[group.rank()] * 2.0).sum(Kind::Float);
            let mut gradients = ranks.backward(&loss, &leaves, Vec::new()).unwrap();
            let mut sums = Tensor::ones([8], (Kind::Double, Device::Cpu));
            assert!(!ranks.sum(&mut sums, &mut gradients, false).unwrap());
            assert_eq!(host(&sums), [2.0; 8]);
            gradients.iter().map(|g| g.defined().then(|| host(g))).collect::<Vec<_>>()
        })
    });
    for step in found.iter().flatten() {
        assert_eq!(step[..], [Some(vec![2.0; 3]), Some(vec![2.0; 3]), None]);
    }
}

#[test]
fn a_stop_that_one_rank_is_asked_for_is_everybodys_and_any_number_goes_on() {
    for trained in [Trained::Extension, Trained::Base] {
        let straight = tempfile::tempdir().unwrap();
        train(fixture(trained).job(straight.path())).unwrap();

        let folder = tempfile::tempdir().unwrap();
        let stopped = |group: Group, at: u64| {
            let mut fixture = fixture(trained);
            let job = TrainJob { group: Some(&group), ..fixture.job(folder.path()) };
            train_until(job, |step| group.rank() == 1 && step == at).unwrap()
        };
        let interrupted = |step| TrainOutcome::Interrupted { step };
        assert_eq!(ranks(2, |group| stopped(group, 7)), [interrupted(7), interrupted(7)]);
        let alone = train_until(fixture(trained).job(folder.path()), |step| step == 13).unwrap();
        assert_eq!(alone, interrupted(13));
        let ends = ranks(3, |group| stopped(group, 99));
        assert!(ends.iter().all(|end| matches!(end, TrainOutcome::Finished(_))), "{ends:?}");

        let (ours, one) = (records(folder.path()), records(straight.path()));
        let distances = distances(&ours, &one);
        assert!(distances.iter().all(|d| *d < 1e-6), "{trained:?}: {distances:?}");
        let names = |folder: &Path| {
            let (tensors, _) = load_tensors(&checkpoint::path(folder), Device::Cpu).unwrap();
            tensors.iter().map(|(name, t)| (name.clone(), t.size())).collect::<Vec<_>>()
        };
        assert_eq!(names(folder.path()), names(straight.path()), "one format");
        let exchanged =
            |r: &StepRecord| r.exchange.map(|e| [e.gradient_bytes, e.early_bytes, e.weight_bytes]);
        let bytes = 4 * fixture(trained).trained_params().parameter_count();
        let weights = if trained == Trained::Base { bytes } else { 0 };
        assert_eq!(exchanged(&ours[0]), Some([bytes, 0, weights]), "the order is not known yet");
        assert_eq!(exchanged(&ours[6]), Some([bytes, bytes, weights]));
        assert_eq!(exchanged(&ours[12]), None);
    }
}

#[test]
fn a_resumed_pair_of_ranks_is_the_pair_that_never_stopped_to_the_bit() {
    for trained in [Trained::Extension, Trained::Base] {
        let run = |stops: &[u64]| {
            let folder = tempfile::tempdir().unwrap();
            let mut digest = String::new();
            for &at in stops {
                let digests = ranks(2, |group| {
                    let mut fixture = fixture(trained);
                    let job = TrainJob { group: Some(&group), ..fixture.job(folder.path()) };
                    train_until(job, |step| step == at).unwrap();
                    fixture.trained_params().digest()
                });
                digest.clone_from(&digests[1]);
            }
            digest
        };
        assert_eq!(run(&[99]), run(&[4, 11, 99]));
    }
}

#[test]
fn a_rank_that_goes_away_ends_all_and_leaves_the_last_checkpoint() {
    let folder = tempfile::tempdir().unwrap();
    let started = Instant::now();
    let errors = ranks(3, |group| {
        let mut fixture = fixture(Trained::Base);
        let job = TrainJob { group: Some(&group), ..fixture.job(folder.path()) };
        let gone = |step| assert!(group.rank() != 1 || step < 5, "rank 1 dies in step 5");
        let train = || {
            train_until(job, |step| {
                gone(step);
                false
            })
        };
        std::panic::catch_unwind(std::panic::AssertUnwindSafe(train))
    });
    assert!(started.elapsed() < PATIENT / 2, "{:?}", started.elapsed());
    for (rank, outcome) in errors.into_iter().enumerate() {
        match outcome {
            Err(_) => assert_eq!(rank, 1),
            Ok(Err(TrainError::Torch(TorchError::Distributed { rank: named, .. }))) => {
                assert_eq!(named, rank);
            }
            Ok(other) => panic!("rank {rank}: {other:?}"),
        }
    }
    assert_eq!(records(folder.path()).len(), 4);
    let resumed = train_until(fixture(Trained::Base).job(folder.path()), |step| step == 4).unwrap();
    assert_eq!(resumed, TrainOutcome::Interrupted { step: 4 }, "from the checkpoint of step 3");
}

#[test]
fn ranks_that_do_not_train_the_same_are_named() {
    let error = |change: fn(&mut Fixture)| {
        let folder = tempfile::tempdir().unwrap();
        let messages = ranks(3, |group| {
            let mut fixture = fixture(Trained::Extension);
            if group.rank() == 2 {
                change(&mut fixture);
            }
            let job = TrainJob { group: Some(&group), ..fixture.job(folder.path()) };
            train(job).unwrap_err().to_string()
        });
        assert!(messages.iter().all(|m| *m == messages[0]), "{messages:?}");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
        messages[0].clone()
    };
    let foreign = error(|f| f.fingerprint = Fingerprint::of(&"another"));
    assert!(foreign.contains("rank 2 has another fingerprint than rank 0"), "{foreign}");
    let moved = error(|f| {
        let weight = f.extension.params().iter().next().unwrap().1;
        let _ = weight.shallow_clone().g_add_scalar_(1e-3);
    });
    assert!(moved.contains("another extension to start from"), "{moved}");
    let moved = error(|f| {
        let weight = f.model.params().iter().next().unwrap().1;
        tch::no_grad(|| drop(weight.shallow_clone().g_add_scalar_(1e-3)));
    });
    assert!(moved.contains("another base to start from"), "{moved}");
}

#[test]
fn what_one_process_refuses_several_refuse_alike() {
    let errors = |change: fn(&mut Fixture)| {
        let folder = tempfile::tempdir().unwrap();
        ranks(2, |group| {
            let mut fixture = fixture(Trained::Extension);
            change(&mut fixture);
            let job = TrainJob { group: Some(&group), ..fixture.job(folder.path()) };
            train(job).unwrap_err().to_string()
        })
    };
    let small = errors(|f| f.spec.batch_size = 1);
    assert!(small.iter().all(|e| e.contains("batch_size is 1") && e.contains("processes")));
    let stray = errors(|f| {
        let stray = Tensor::ones([2, 2], (Kind::Float, Device::Cpu));
        f.extension.params_mut().insert("layers.1.stray", stray).unwrap();
    });
    assert!(stray.iter().all(|e| e.contains("`layers.1.stray` had no gradient")), "{stray:?}");
    let diverged = errors(|f| f.spec.learning_rate = 1e9);
    assert!(diverged.iter().all(|e| *e == diverged[0] && e.contains("diverged")), "{diverged:?}");

    let folder = tempfile::tempdir().unwrap();
    let path = checkpoint::path(folder.path());
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(&path, "damaged").unwrap();
    let damaged = ranks(2, |group| {
        let mut fixture = fixture(Trained::Base);
        let job = TrainJob { group: Some(&group), ..fixture.job(folder.path()) };
        train(job).unwrap_err().to_string()
    });
    assert!(damaged.iter().all(|e| e.contains("state.safetensors")), "{damaged:?}");
    assert!(damaged[1].contains("rank 0 could not begin"), "{damaged:?}");
}
