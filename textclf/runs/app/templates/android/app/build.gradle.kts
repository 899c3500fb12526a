plugins {
    id("com.android.application")
}

android {
    namespace = "app.textclf.example"
    compileSdk = 37

    defaultConfig {
        applicationId = "app.textclf.example"
        minSdk = 26
        targetSdk = 37
        versionCode = 1
        versionName = "1.0"
    }

    compileOptions {
        sourceCompatibility = JavaVersion.VERSION_17
        targetCompatibility = JavaVersion.VERSION_17
    }
}

dependencies {
    implementation("{{dependency}}")
}
