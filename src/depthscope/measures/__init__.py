"""Pure maths: tensors in, tensors out; no model, no disk.

Each file ends in a `LAWS` table (see `depthscope.measures.laws`); one general test goes through all of them.
`statistics` needs numpy only, so that results can be concluded again where torch is not installed; this
package therefore imports nothing by itself.
"""
