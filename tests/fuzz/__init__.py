"""Hostile bytes: what each kernel that reads raw bytes makes of any input, against an oracle.

`targets/NAME.py` has `check(data)`, which raises when the kernel errs; `corpus/NAME` has its seeds,
`corpus/NAME.dict` its words for libFuzzer, `finds/NAME` the inputs that once failed. `test_corpus.py`
replays them all on any build; `campaign.py` fuzzes on the debug build (`make fuzz`).
"""
