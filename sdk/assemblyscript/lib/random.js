const MASK = 0xffff_ffff_ffff_ffffn;

/** The numbers that the real host gives a message: splitmix64, seeded by id and attempt. */
export class Sequence {
  #state;

  constructor(id, attempt) {
    let hash = 0xcbf2_9ce4_8422_2325n;
    for (const byte of Buffer.from(id)) hash = ((hash ^ BigInt(byte)) * 0x100_0000_01b3n) & MASK;
    this.#state = hash ^ ((BigInt(attempt) * 0xd134_2543_de82_ef95n) & MASK);
  }

  next() {
    this.#state = (this.#state + 0x9e37_79b9_7f4a_7c15n) & MASK;
    let mixed = this.#state;
    mixed = ((mixed ^ (mixed >> 30n)) * 0xbf58_476d_1ce4_e5b9n) & MASK;
    mixed = ((mixed ^ (mixed >> 27n)) * 0x94d0_49bb_1331_11ebn) & MASK;
    return mixed ^ (mixed >> 31n);
  }
}
