use super::TARGETS;

#[path = "../../../../tests/fuzz/mutate.rs"]
mod mutate;

#[test]
fn what_holds_for_any_bytes_holds_for_those_near_the_valid() {
    let mut chance = mutate::Chance(0x5eed);
    for (name, check, seeds) in TARGETS {
        let seeds = seeds();
        assert!(seeds.len() >= 4, "{} has no first inputs", name);
        for n in 0..3_000 {
            let mut input = seeds[n % seeds.len()].clone();
            if n >= seeds.len() {
                mutate::mutate(&mut input, &seeds[chance.below(seeds.len())], &mut chance);
            }
            check(&input);
        }
    }
}
