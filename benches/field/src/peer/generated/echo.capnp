@0xd1c5a7b0936e42f8;
interface Echo { call @0 (id :UInt64, data :Data) -> (id :UInt64, data :Data); }
