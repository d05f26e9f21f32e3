//! Ranks are threads here, which c10d does not mind: each has its group.

use super::*;
use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex};
use std::time::Instant;
use tch::Kind;

const SHORT: Duration = Duration::from_secs(3);
const PATIENT: Duration = Duration::from_mins(1);

fn free_port() -> u16 {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port()
}

fn meeting(rank: usize, size: usize, port: u16, timeout: Duration) -> Rendezvous {
    Rendezvous { rank, size, address: "127.0.0.1".to_owned(), port, timeout }
}

/// What each rank's thread returns, by rank.
fn ranks<T: Send>(size: usize, timeout: Duration, body: impl Fn(Group) -> T + Sync) -> Vec<T> {
    let port = free_port();
    let (body, run) = (&body, move |rank| {
        Group::connect(&meeting(rank, size, port, timeout), Device::Cpu).unwrap()
    });
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..size).map(|rank| scope.spawn(move || body(run(rank)))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    })
}

#[test]
fn a_sum_is_over_all_ranks_in_place_in_every_kind() {
    for size in [1, 2, 3, 4] {
        ranks(size, PATIENT, |group| {
            assert_eq!(group.size(), size);
            for kind in [Kind::Float, Kind::Double, Kind::BFloat16, Kind::Int64] {
                let tensor = Tensor::full([3, 5], group.rank() as i64 + 1, (kind, Device::Cpu));
                group.all_reduce(&tensor).unwrap();
                let expected = (size * (size + 1) / 2) as f64;
                let different = tensor.to_kind(Kind::Double).ne(expected).any();
                assert_eq!(different.int64_value(&[]), 0, "{kind:?}, {size} ranks: {tensor}");
            }
        });
    }
}

#[test]
fn a_broadcast_gives_all_the_tensor_of_one() {
    ranks(3, PATIENT, |group| {
        for from in 0..3 {
            for kind in [Kind::Float, Kind::Double, Kind::BFloat16, Kind::Int64] {
                let tensor = Tensor::full([7], group.rank() as i64 * 10, (kind, Device::Cpu));
                group.broadcast(&tensor, from).unwrap();
                assert_eq!(Vec::<f64>::try_from(tensor).unwrap(), [from as f64 * 10.0; 7]);
            }
        }
        group.barrier().unwrap();
    });
}

#[test]
fn a_weight_that_wants_a_gradient_is_shared_where_it_lies() {
    ranks(2, PATIENT, |group| {
        let weight = Tensor::full([4], group.rank() as i64, (Kind::Float, Device::Cpu));
        let weight = weight.set_requires_grad(true);
        let held = weight.shallow_clone();
        group.broadcast(&weight, 1).unwrap();
        assert_eq!(Vec::<f32>::try_from(held.detach()).unwrap(), [1.0; 4]);
        assert!(held.requires_grad() && held.is_leaf());
    });
}

#[test]
fn pending_sums_are_matched_in_the_order_they_were_begun() {
    ranks(3, PATIENT, |group| {
        // Sizes from 4 bytes to 4 MiB, so that later ones would overtake earlier ones.
        let tensors: Vec<Tensor> = (0..21_i64)
            .map(|i| Tensor::full([1 << (20 - i)], i, (Kind::Float, Device::Cpu)))
            .collect();
        let begun: Vec<Pending> =
            tensors.iter().map(|tensor| group.start_all_reduce(tensor).unwrap()).collect();
        for pending in begun.into_iter().rev() {
            pending.wait().unwrap();
        }
        for (i, tensor) in tensors.iter().enumerate() {
            let (least, most) = (tensor.min().double_value(&[]), tensor.max().double_value(&[]));
            assert_eq!((least, most), (3.0 * i as f64, 3.0 * i as f64));
        }
    });
}

#[test]
fn the_others_hear_what_rank_0_says_in_order() {
    let heard = ranks(3, PATIENT, |group| {
        if group.rank() == 0 {
            for text in ["one", "", "drei, ±"] {
                group.say(text).unwrap();
            }
            assert!(group.listen().unwrap_err().to_string().contains("rank 0 speaks"));
        } else {
            assert!(group.say("no").unwrap_err().to_string().contains("only rank 0 speaks"));
        }
        let heard = (group.rank() > 0).then(|| [(); 3].map(|()| group.listen().unwrap()));
        group.barrier().unwrap();
        heard
    });
    assert_eq!(heard[0], None);
    assert!(heard[1..].iter().flatten().all(|texts| texts == &["one", "", "drei, ±"]));
}

#[test]
fn a_rank_that_goes_away_is_an_error_of_the_others_within_the_timeout() {
    for leaver in 0..3 {
        let ends = ranks(3, SHORT, |group| {
            let tensor = Tensor::ones([1000], (Kind::Float, Device::Cpu));
            group.all_reduce(&tensor).unwrap();
            if group.rank() == leaver {
                return None;
            }
            let start = Instant::now();
            let error = group.all_reduce(&tensor).unwrap_err().to_string();
            Some((start.elapsed(), error))
        });
        for (rank, end) in ends.into_iter().enumerate().filter(|(rank, _)| *rank != leaver) {
            let (time, error) = end.unwrap();
            assert!(time < SHORT * 2, "{time:?}");
            let expected = format!("rank {rank} could not sum a tensor over all processes: ");
            assert!(error.starts_with(&expected), "{error}");
            assert!(!error.contains("/gloo/") && !error.contains("typically"), "{error}");
        }
    }
}

#[test]
fn what_gloo_says_is_stated_without_its_places_and_advice() {
    let said =
        "Gloo failed with [/a/gloo/b.cc:5] Read error [::1]:7: reset. This is typically caused by";
    assert_eq!(plain(said), "Gloo failed with Read error [::1]:7: reset");
    assert_eq!(plain("[0] is no tensor"), "[0] is no tensor");
}

#[test]
fn a_listener_ends_when_rank_0_does() {
    let errors = ranks(2, SHORT, |group| (group.rank() > 0).then(|| group.listen().unwrap_err()));
    let error = errors.into_iter().flatten().next().unwrap().to_string();
    assert!(error.starts_with("rank 1 could not hear what is next from rank 0: "), "{error}");
}

#[test]
fn groups_may_meet_one_after_another_at_a_store_that_somebody_else_hosts() {
    let port = free_port();
    // The host's own group of one stays, as torchrun's store does.
    let host = Group::connect(&meeting(0, 1, port, PATIENT), Device::Cpu).unwrap();
    for attempt in ["0", "1"] {
        std::thread::scope(|scope| {
            for rank in 0..2 {
                scope.spawn(move || {
                    let meeting = meeting(rank, 2, port, PATIENT);
                    let group = Group::connect_through(&meeting, attempt, Device::Cpu).unwrap();
                    let tensor = Tensor::from_slice(&[1.0_f32, 2.0]);
                    group.all_reduce(&tensor).unwrap();
                    assert_eq!(Vec::<f32>::try_from(tensor).unwrap(), [2.0, 4.0]);
                    if rank == 0 {
                        group.say(attempt).unwrap();
                    } else {
                        assert_eq!(group.listen().unwrap(), attempt);
                    }
                    group.leave(PATIENT).unwrap();
                });
            }
        });
    }
    host.barrier().unwrap();
}

#[test]
fn rank_0_leaves_last_unless_its_patience_ends() {
    let ends = ranks(3, PATIENT, |group| {
        if group.rank() == 0 {
            group.say("the last").unwrap();
        } else {
            std::thread::sleep(Duration::from_millis(100 * group.rank() as u64));
            assert_eq!(group.listen().unwrap(), "the last");
        }
        group.leave(PATIENT).map(|()| Instant::now()).unwrap()
    });
    assert!(ends[0] > ends[1] && ends[0] > ends[2]);

    let ends = ranks(2, PATIENT, |group| {
        if group.rank() > 0 {
            return group.listen().map(drop);
        }
        group.leave(Duration::ZERO)
    });
    let error = ends[0].as_ref().unwrap_err().to_string();
    assert!(error.contains("rank 0 could not leave the group: 1 of 2 processes"), "{error}");
    assert!(ends[1].is_err());
}

#[test]
fn one_who_waits_alone_gives_up_in_time() {
    for rank in [0, 1] {
        let start = Instant::now();
        let error = Group::connect(&meeting(rank, 2, free_port(), SHORT), Device::Cpu).unwrap_err();
        assert!(start.elapsed() < SHORT * 3, "{:?}", start.elapsed());
        assert!(error.to_string().contains(&format!("rank {rank} could not join")), "{error}");
    }
}

#[test]
fn what_cannot_be_a_group_is_said() {
    let error = Group::connect(&meeting(2, 2, 1, SHORT), Device::Cpu).unwrap_err().to_string();
    assert!(error.contains("a group of 2 has the ranks 0 to 1"), "{error}");
    let busy = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = busy.local_addr().unwrap().port();
    let error = Group::connect(&meeting(0, 1, port, SHORT), Device::Cpu).unwrap_err().to_string();
    assert!(error.contains(&format!("127.0.0.1:{port} cannot be listened on")), "{error}");
}

#[test]
fn without_nccl_a_cuda_device_is_an_error_that_says_so() {
    if crate::cuda_linked() {
        return;
    }
    let found = Group::connect(&meeting(0, 1, free_port(), SHORT), Device::Cuda(0));
    let error = found.unwrap_err().to_string();
    assert!(error.contains("this build of neutral has no NCCL"), "{error}");
}

#[test]
fn a_hook_sees_the_whole_gradient_of_a_captured_leaf_once_and_before_the_pass_ends() {
    let weight = Tensor::ones([2], (Kind::Float, Device::Cpu)).set_requires_grad(true);
    let below = Tensor::ones([2], (Kind::Float, Device::Cpu)).set_requires_grad(true);
    let seen: Arc<Mutex<Vec<(&str, Vec<f32>)>>> = Arc::default();
    let note = |name: &'static str| {
        let seen = seen.clone();
        move |gradient: &Tensor| {
            let values = Vec::<f32>::try_from(gradient).unwrap();
            seen.lock().unwrap().push((name, values));
        }
    };
    let hooks = [("weight", &weight), ("below", &below)].map(|(n, t)| GradientHook::on(t, note(n)));
    // The weight is used twice, above `below`: 3 + 4.
    let loss = || (below.square() * &weight * 3.0 + &weight * 4.0).sum(Kind::Float);
    let given = Tensor::run_backward(&[loss()], &[&below, &weight], false, false);
    assert_eq!(Vec::<f32>::try_from(&given[1]).unwrap(), [7.0; 2]);
    let expected = vec![("weight", vec![7.0; 2]), ("below", vec![6.0; 2])];
    assert_eq!(*seen.lock().unwrap(), expected);
    drop(hooks);
    let _ = Tensor::run_backward(&[loss()], &[&below, &weight], false, false);
    assert_eq!(seen.lock().unwrap().len(), 2, "a hook that is dropped sees no more");
}

#[test]
fn a_panic_in_a_hook_is_an_error_of_the_backward_pass() {
    let weight = Tensor::ones([2], (Kind::Float, Device::Cpu)).set_requires_grad(true);
    let _hook = GradientHook::on(&weight, |_| panic!("on purpose"));
    let loss = (&weight * 2.0).sum(Kind::Float);
    let message = Tensor::f_run_backward(&[&loss], &[&weight], false, false).unwrap_err();
    assert!(message.to_string().contains("on purpose"), "{message}");
}

#[test]
fn a_name_is_no_loopback_whatever_this_host_reads_it_as() {
    for address in ["localhost", "127.0.0.1", "127.0.1.1", "::1"] {
        assert!(is_loopback(address), "{address}");
    }
    for address in ["node-1", "10.0.0.1", "0.0.0.0", ""] {
        assert!(!is_loopback(address), "{address}");
    }
}
