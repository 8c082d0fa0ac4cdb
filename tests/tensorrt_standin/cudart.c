// Stands in for libcudart: device memory is memory, streams do nothing, the GPU calls itself a stand-in.
//
// The environment changes it: STANDIN_GPUS is the number of GPUs, STANDIN_SM the compute capability, as in 87; STANDIN_FAIL names
// a function that fails with the error 700, as cudaStreamSynchronize does when a kernel before it wrote where it must not.
#include <stdlib.h>
#include <string.h>

enum { OK = 0, OUT_OF_MEMORY = 2, NO_DEVICE = 100, ILLEGAL_ADDRESS = 700 };
enum { MAJOR = 75, MINOR = 76 };

static const size_t FREE_BYTES = (size_t)6 << 30, TOTAL_BYTES = (size_t)8 << 30;
static long alive = 0;

static int number(const char* name, int otherwise) {
    const char* text = getenv(name);
    return text ? atoi(text) : otherwise;
}
static int outcome(const char* function) {
    const char* failing = getenv("STANDIN_FAIL");
    return failing && strcmp(failing, function) == 0 ? ILLEGAL_ADDRESS : OK;
}

int cudaGetDeviceCount(int* count) {
    *count = number("STANDIN_GPUS", 1);
    return *count ? OK : NO_DEVICE;
}
int cudaGetDevice(int* device) { *device = 0; return OK; }
int cudaGetDeviceProperties(char* properties, int device) {
    (void)device;
    strcpy(properties, "stand-in (no GPU)");
    return OK;
}
int cudaDeviceGetAttribute(int* value, int attribute, int device) {
    (void)device;
    int capability = number("STANDIN_SM", 87);
    *value = attribute == MAJOR ? capability / 10 : attribute == MINOR ? capability % 10 : 0;
    return OK;
}
int cudaMemGetInfo(size_t* free_bytes, size_t* total_bytes) { *free_bytes = FREE_BYTES; *total_bytes = TOTAL_BYTES; return OK; }
int cudaMalloc(void** address, size_t size) {
    if (size > FREE_BYTES) return OUT_OF_MEMORY;
    *address = malloc(size);
    alive++;
    return outcome("cudaMalloc");
}
int cudaFree(void* address) { free(address); alive--; return OK; }
int cudaStreamCreate(void** stream) { *stream = malloc(1); alive++; return OK; }
int cudaStreamDestroy(void* stream) { free(stream); alive--; return OK; }
int cudaMemcpyAsync(void* to, const void* from, size_t size, int kind, void* stream) {
    (void)kind; (void)stream;
    memcpy(to, from, size);
    return outcome("cudaMemcpyAsync");
}
int cudaStreamSynchronize(void* stream) { (void)stream; return outcome("cudaStreamSynchronize"); }
int cudaGetLastError(void) { return outcome("cudaGetLastError"); }
const char* cudaGetErrorName(int error) {
    return error == OUT_OF_MEMORY ? "cudaErrorMemoryAllocation" : error == NO_DEVICE ? "cudaErrorNoDevice"
         : error == ILLEGAL_ADDRESS ? "cudaErrorIllegalAddress" : "cudaErrorUnknown";
}
long standin_alive(void) { return alive; }  // allocations and streams that were not given back
