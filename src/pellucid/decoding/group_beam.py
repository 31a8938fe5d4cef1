from pellucid.decoding import beam

run = beam.run
