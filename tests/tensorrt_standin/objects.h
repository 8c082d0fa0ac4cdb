// How TensorRT's objects look to its bindings, and how to make such objects.
//
// Every public class of TensorRT is two pointers, {virtual table, mImpl}; its inline methods call through the virtual table of
// mImpl. Interfaces that the application implements (ILogger, IProfiler, IProgressMonitor) and the ONNX parser are called through
// their own table. So an object here is a Handle, and its methods are put into tables by slot number.
#pragma once

#include <cstdint>
#include <cstdio>
#include <string>
#include <typeinfo>
#include <utility>
#include <vector>

#include "slots.h"

struct Dims {  // nvinfer1::Dims64, which crosses the boundary by value
    int32_t count = 0;
    int64_t sizes[8] = {};
};

// What the bindings hold a pointer to. The implementation's table follows, and mImpl points there.
struct Handle {
    void** table;
    void* implementation;
    void** implementation_table;
};

constexpr int SLOT_COUNT = 160;
using Method = std::pair<int, void*>;

// The bindings ask a polymorphic object for its type; any type will do.
struct Anything { virtual ~Anything() {} };

void log_error(const std::string& message);
long report_missing(int object_class, int slot);

// A slot that nothing was put into says so once it is called, instead of crashing, and returns 0.
template <int Class, size_t Slot> long not_implemented(void*) { return report_missing(Class, Slot); }

template <int Class, size_t... Slot> void** filled_table(std::index_sequence<Slot...>, const std::vector<Method>& methods) {
    // What precedes a virtual table: the offset to the whole object, and its type.
    static void* whole[2 + SLOT_COUNT] = {nullptr, (void*)&typeid(Anything), (void*)&not_implemented<Class, Slot>...};
    for (const auto& [slot, function] : methods) whole[2 + slot] = function;
    return whole + 2;
}

template <int Class> void** table_of(const std::vector<Method>& methods) {
    return filled_table<Class>(std::make_index_sequence<SLOT_COUNT>(), methods);
}

inline void nothing(void*) {}

template <class T> void destroy(void* handle) { delete static_cast<T*>(static_cast<Handle*>(handle)); }

// Make `object`, derived from Handle, one that the bindings can hold; they delete what they own through slot 1.
template <int Class, class T> T* made(T* object, const std::vector<Method>& methods, bool owned = true) {
    static void** inner = table_of<Class>(methods);
    // The public class has its destructors alone: one that ends the object, and one that frees it too.
    static void* outer[4] = {nullptr, (void*)&typeid(Anything), (void*)nothing, owned ? (void*)destroy<T> : (void*)nothing};
    object->table = outer + 2;
    object->implementation_table = inner;
    object->implementation = &object->implementation_table;
    return object;
}

// The object whose method was called: methods are given mImpl.
template <class T> T& self(void* implementation) {
    auto* handle = reinterpret_cast<Handle*>(static_cast<char*>(implementation) - offsetof(Handle, implementation_table));
    return *static_cast<T*>(handle);
}

// The object behind a pointer that the bindings pass as an argument.
template <class T> T& given(void* handle) { return *static_cast<T*>(static_cast<Handle*>(handle)); }

// Call a method of an interface that the application implements.
template <class Result, class... Arguments> Result call(void* object, int slot, Arguments... arguments) {
    void** table = *static_cast<void***>(object);
    return reinterpret_cast<Result (*)(void*, Arguments...)>(table[slot])(object, arguments...);
}
