#!/usr/bin/env bash
# An emulated 64-bit ARM device on another machine: Debian's Python 3.11 for arm64 with numpy, Pillow and ONNX Runtime, under
# user-mode QEMU. Needs qemu-user-static, apt-get, dpkg and pip; neither root nor binfmt_misc nor a chroot. Half a minute, 250 MB.
#
#   scripts/make_arm64_device.sh FOLDER
#
# Then FOLDER/python is the device's Python: name it with python in devices.toml. What it computes is what an ARM computes; how
# long it takes says nothing.
set -euo pipefail

folder=$(realpath -m "${1:?usage: make_arm64_device.sh FOLDER}")
root=$folder/root
python_packages="python3.11-minimal libpython3.11-minimal libpython3.11-stdlib"
library_packages="libc6 libgcc-s1 libstdc++6 zlib1g libexpat1 libffi8 libbz2-1.0 liblzma5 libssl3"

for tool in qemu-aarch64-static apt-get dpkg pip; do
  command -v "$tool" >/dev/null || { echo "$tool is missing; on Debian: sudo apt-get install qemu-user-static python3-pip" >&2; exit 1; }
done

fetch_system() {
  mkdir -p "$root" "$folder/debs" "$folder/lists/partial"
  # Lists of its own, so that the machine's package state is neither read nor changed.
  local options=(
    -qq -o APT::Architecture=arm64 -o APT::Architectures=arm64 -o Dir::State::Lists="$folder/lists"
    -o Dir::State::status=/dev/null -o APT::Sandbox::User=root
  )
  apt-get "${options[@]}" update || true # one unreachable mirror among several is no failure
  # shellcheck disable=SC2086
  (cd "$folder/debs" && apt-get "${options[@]}" download $python_packages $library_packages)
  for package in "$folder"/debs/*.deb; do dpkg -x "$package" "$root"; done
}

# ONNX Runtime asks these files what the processor can do; without them it would read this machine's and crash.
pose_as_raspberry_pi() {
  local cpu=$root/sys/devices/system/cpu name core
  mkdir -p "$root/proc" "$cpu"
  for name in possible present online; do echo 0-3 >"$cpu/$name"; done
  for core in 0 1 2 3; do
    cat <<END
processor	: $core
BogoMIPS	: 108.00
Features	: fp asimd evtstrm crc32 cpuid
CPU implementer	: 0x41
CPU architecture: 8
CPU variant	: 0x0
CPU part	: 0xd08
CPU revision	: 3

END
  done >"$root/proc/cpuinfo"
  printf 'Hardware\t: BCM2835\nRevision\t: c03111\nModel\t\t: Raspberry Pi 4 Model B Rev 1.1\n' >>"$root/proc/cpuinfo"
}

install_libraries() {
  local platforms=() glibc
  for glibc in 2_28 2_27 2_17; do platforms+=(--platform "manylinux_${glibc}_aarch64"); done
  pip install --quiet --disable-pip-version-check --target "$folder/site" "${platforms[@]}" \
    --python-version 3.11 --implementation cp --only-binary=:all: numpy pillow onnxruntime
}

write_launcher() {
  cat >"$folder/python" <<END
#!/bin/sh
export QEMU_LD_PREFIX='$root' QEMU_CPU="\${QEMU_CPU:-cortex-a72}" PYTHONHOME='$root/usr'
export PYTHONPATH='$folder/site'"\${PYTHONPATH:+:\$PYTHONPATH}"
exec qemu-aarch64-static '$root/usr/bin/python3.11' "\$@"
END
  chmod +x "$folder/python"
}

fetch_system
pose_as_raspberry_pi
install_libraries
write_launcher
"$folder/python" -c 'import platform, numpy, onnxruntime, PIL.Image; print(platform.machine(), "ONNX Runtime", onnxruntime.__version__)'
