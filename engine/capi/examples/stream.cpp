// Streams from C++: owners that release by themselves, errors as exceptions, a callback, and a thread that cancels.
//
//     stream MODEL PROMPT
#include "brillm.h"

#include <atomic>
#include <iostream>
#include <memory>
#include <stdexcept>
#include <string>
#include <thread>

struct Release {
    void operator()(brillm_model *model) const { brillm_model_release(model); }
    void operator()(brillm_session *session) const { brillm_session_release(session); }
    void operator()(brillm_error *error) const { brillm_error_free(error); }
};
template <typename T> using Owned = std::unique_ptr<T, Release>;

// Calls a function whose last argument is the error, and throws what it says.
template <typename Call> brillm_status checked(Call call) {
    brillm_error *raw = nullptr;
    const brillm_status status = call(&raw);
    const Owned<brillm_error> error(raw);
    if (status < 0) {
        throw std::runtime_error(brillm_error_message(error.get()));
    }
    return status;
}

static Owned<brillm_model> open(const char *path) {
    brillm_model *model = nullptr;
    checked([&](brillm_error **error) { return brillm_model_open(path, nullptr, &model, error); });
    return Owned<brillm_model>(model);
}

static Owned<brillm_session> session_of(const brillm_model *model, const brillm_parameters &parameters) {
    brillm_session *session = nullptr;
    checked([&](brillm_error **error) { return brillm_session_new(model, &parameters, &session, error); });
    return Owned<brillm_session>(session);
}

// The language linkage that the header's callback type has.
extern "C" {
static int32_t print(void *user, const brillm_piece *piece) {
    std::cout.write(piece->text, static_cast<std::streamsize>(piece->length)).flush();
    return --*static_cast<int *>(user) > 0 ? BRILLM_GO_ON : BRILLM_STOP;
}

static int32_t count(void *user, const brillm_piece *) {
    ++*static_cast<std::atomic<unsigned> *>(user);
    return BRILLM_GO_ON;
}
}

int main(int argument_count, char **arguments) try {
    if (argument_count != 3) {
        std::cerr << "usage: " << arguments[0] << " MODEL PROMPT\n";
        return 2;
    }
    const auto model = open(arguments[1]);
    brillm_parameters parameters{};
    brillm_parameters_init(&parameters, sizeof parameters);
    parameters.tokens = BRILLM_UNLIMITED;
    parameters.ignore_eos = 1;
    parameters.temperature = 1.0;
    parameters.seed = 7;
    const auto session = session_of(model.get(), parameters);
    brillm_outcome outcome{};
    outcome.struct_size = sizeof outcome;

    // A callback ends the endless text after six pieces.
    int left = 6;
    std::cout << arguments[2];
    checked([&](brillm_error **error) {
        return brillm_session_generate(session.get(), arguments[2], BRILLM_TERMINATED, print, &left, &outcome, error);
    });
    std::cout << "\n" << outcome.tokens << " tokens, finish " << outcome.finish << "\n";

    // Another thread ends it, with a reference of its own.
    std::atomic<unsigned> pieces{0};
    const Owned<brillm_session> watched(brillm_session_retain(session.get()));
    std::thread watcher([&] {
        while (pieces < 3) {
            std::this_thread::yield();
        }
        brillm_session_cancel(watched.get());
    });
    checked([&](brillm_error **error) {
        return brillm_session_generate(session.get(), arguments[2], BRILLM_TERMINATED, count, &pieces, &outcome, error);
    });
    watcher.join();
    std::cout << (outcome.finish == BRILLM_FINISH_CANCELLED ? "cancelled" : "not cancelled") << "\n";
    return 0;
} catch (const std::exception &error) {
    std::cerr << "error: " << error.what() << "\n";
    return 1;
}
