"""How two training processes are started."""

# `accelerate launch --cpu --num_processes 2` would start one process: its CPU launcher knows only MPI.
LAUNCH_TWO = [
    "-m",
    "accelerate.commands.launch",
    "--multi_gpu",
    "--num_processes",
    "2",
    "--num_machines",
    "1",
    "--main_process_port",
    "0",
    "--mixed_precision",
    "no",
    "--dynamo_backend",
    "no",
    "--num_cpu_threads_per_process",
    "1",
]
