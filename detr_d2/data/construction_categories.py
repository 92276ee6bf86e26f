"""The 64 categories of construction photos: 16 kinds of stuff (COCO's super-categories) and 48 things.

Stuff has colours that remind of it; the things' colours are as far from those and from one another as 64 colours can
be, measured in CIELAB.
"""

CONSTRUCTION_STUFF = """
1 misc #969696
2 water #145abe
3 ground #a58255
4 solid #5f554b
5 sky #87c3fa
6 plant #32963c
7 structural #be5028
8 building #6e73a5
9 food #faa53c
10 textile #e68cc8
11 furniture #7d410f
12 window #96ebe6
13 floor #cdb9a0
14 ceiling #f5f5d7
15 wall #cdaad2
16 rawmaterial #c3be32
"""
"""A line a category: dataset id, name, colour."""

CONSTRUCTION_THINGS = """
17 aac_blocks #0000ff
18 adhesives #00ff00
19 ahus #ff1ef0
20 aluminium_frames_for_false_ceiling #ff0078
21 chiller #69004b
22 concrete_mixer_machine #6900a5
23 concrete_pump #ff0000
24 control_panel #00ffb4
25 cu_piping #c3ff00
26 distribution_transformer #0f3c00
27 dump_truck_tipper_truck #d278ff
28 emulsion_paint #c3ff96
29 enamel_paint #008778
30 fine_aggregate #c30f96
31 fire_buckets #005aff
32 fire_extinguishers #4bc30f
33 glass_wool #ff7887
34 grader #78001e
35 hoist #1e2d4b
36 hollow_concrete_blocks #a500f0
37 hot_mix_plant #69780f
38 hydra_crane #fff000
39 interlocked_switched_socket #a55a69
40 junction_box #874ba5
41 lime #00ff78
42 marble #ff3c4b
43 metal_primer #ffd287
44 pipe_fittings #96c387
45 rcc_hume_pipes #a5a5ff
46 refrigerant_gas #1e87a5
47 river_sand #f06900
48 rmc_batching_plant #4b1e2d
49 rmu_units #00d2b4
50 sanitary_fixtures #0f1e87
51 skid_steer_loader #ffa587
52 smoke_detectors #004b4b
53 split_units #c33c78
54 structural_steel_channel #3c2d00
55 switch_boards_and_switches #5a784b
56 texture_paint #a5780f
57 threaded_rod #0f00c3
58 transit_mixer #ffc300
59 vcb_panel #0096f0
60 vitrified_tiles #3c1e5a
61 vrf_units #ff78e1
62 water_tank #d2e1f0
63 wheel_loader #78a50f
64 wood_primer #96ffc3
"""
